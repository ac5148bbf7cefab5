"""Deleting what a user has written. `_DELETED` names every table with rows of a conversation."""

from triplane.adapters.postgres.pool import Database
from triplane.orchestration.accounts.administration_ports import HiddenData

_OF_CHOSEN = "WHERE tenant_id = $1 AND conversation_id = ANY($2::text[])"

_DELETED = {
    "summaries": f"DELETE FROM summaries {_OF_CHOSEN}",
    "messages": f"DELETE FROM messages {_OF_CHOSEN}",
    "turns": f"DELETE FROM turns {_OF_CHOSEN}",
    "conversations": "DELETE FROM conversations WHERE tenant_id = $1 AND id = ANY($2::text[])",
}
"""In this order, for some conversations `$2` of the tenant `$1`: a table comes before those it refers to."""

_DELETED_AT_LAST = {
    "instructions": """
        UPDATE users SET settings = settings - 'instructions'
        WHERE tenant_id = $1 AND id = $2 AND coalesce(settings ->> 'instructions', '') <> ''""",
}
"""What belongs to the user `$2` and to no conversation."""


class PostgresUserData:
    """`UserDataStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hide(self, tenant_id: str, user_id: str) -> HiddenData:
        async with self._database.connection() as connection, connection.transaction():
            hidden = await connection.fetch(_HIDE, tenant_id, user_id)
            stopping = await connection.fetch(STOP_TURNS, tenant_id, user_id)
        return HiddenData(
            conversation_ids=[row["id"] for row in hidden], turn_ids=[row["id"] for row in stopping]
        )

    async def has_running(self, tenant_id: str, user_id: str) -> bool:
        return bool(await self._database.fetchval(_HAS_RUNNING, tenant_id, user_id))

    async def delete_some(self, tenant_id: str, user_id: str, limit: int) -> dict[str, int]:
        async with self._database.connection() as connection, connection.transaction():
            rows = await connection.fetch(_SOME_HIDDEN, tenant_id, user_id, limit)
            chosen = [row["id"] for row in rows]
            if not chosen:
                return {}
            return {
                name: _count(await connection.execute(sql, tenant_id, chosen))
                for name, sql in _DELETED.items()
            }

    async def delete_rest(self, tenant_id: str, user_id: str) -> dict[str, int]:
        async with self._database.connection() as connection, connection.transaction():
            return {
                name: _count(await connection.execute(sql, tenant_id, user_id))
                for name, sql in _DELETED_AT_LAST.items()
            }


_HIDE = """
UPDATE conversations SET deleted_at = now()
WHERE tenant_id = $1 AND user_id = $2 AND deleted_at IS NULL RETURNING id"""

STOP_TURNS = """
UPDATE turns SET stop_requested = true
WHERE tenant_id = $1 AND user_id = $2 AND state = 'streaming' RETURNING id"""

_HAS_RUNNING = """
SELECT EXISTS (
    SELECT FROM turns t
    JOIN conversations c ON c.tenant_id = t.tenant_id AND c.id = t.conversation_id
    WHERE t.tenant_id = $1 AND t.user_id = $2 AND t.state = 'streaming' AND c.deleted_at IS NOT NULL)"""

_SOME_HIDDEN = """
SELECT id FROM conversations WHERE tenant_id = $1 AND user_id = $2 AND deleted_at IS NOT NULL
ORDER BY id LIMIT $3 FOR UPDATE"""


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
