"""Whose access has just ended: written by triggers, so that nobody who ends it can forget to say so."""

from triplane.adapters.postgres.pool import Database

_ENDED = """
SELECT DISTINCT tenant_id, id FROM ended_access WHERE at > clock_timestamp() - make_interval(secs => $1)"""


class PostgresEndedAccess:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def within(self, seconds: float) -> set[tuple[str, str]]:
        """Tenant and id of the users, sessions and keys whose access ended in the last so many seconds."""
        return {(row["tenant_id"], row["id"]) for row in await self._database.fetch(_ENDED, seconds)}
