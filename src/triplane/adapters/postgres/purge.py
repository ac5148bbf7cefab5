"""Conversations whose time has run out, removed by the function of `0007_history.sql`."""

from collections.abc import Sequence
from datetime import timedelta

from triplane.adapters.postgres.pool import Database


class PostgresPurge:
    """`PurgeStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def purge(
        self, deleted_kept: timedelta, temporary_kept: timedelta, limit: int
    ) -> Sequence[tuple[str, str]]:
        rows = await self._database.fetch(_PURGE, deleted_kept, temporary_kept, limit)
        return [(row["tenant_id"], row["id"]) for row in rows]


_PURGE = "SELECT tenant_id, id FROM purge_conversations($1, $2, $3)"
