"""Deleting what a user has written; `remove_conversations` of `0007_history.sql` names the tables."""

from triplane.adapters.postgres.pool import Database
from triplane.orchestration.accounts.administration_ports import DeletedConversations, HiddenData

_DELETED_AT_LAST = {
    "projects": "DELETE FROM projects WHERE tenant_id = $1 AND user_id = $2",
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
        # Not in one transaction: an ending turn locks its own row and then its conversation's.
        hidden = await self._database.fetch(_HIDE, tenant_id, user_id)
        stopping = await self._database.fetch(STOP_TURNS, tenant_id, user_id)
        return HiddenData(
            conversation_ids=[row["id"] for row in hidden], turn_ids=[row["id"] for row in stopping]
        )

    async def has_running(self, tenant_id: str, user_id: str) -> bool:
        return bool(await self._database.fetchval(_HAS_RUNNING, tenant_id, user_id))

    async def delete_some(self, tenant_id: str, user_id: str, limit: int) -> DeletedConversations:
        async with self._database.connection() as connection, connection.transaction():
            rows = await connection.fetch(_SOME_HIDDEN, tenant_id, user_id, limit)
            ids = [row["id"] for row in rows]
            counts = await connection.fetch(_REMOVE, [tenant_id] * len(ids), ids)
        return DeletedConversations(ids=ids, rows={row["name"]: row["rows"] for row in counts})

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


_REMOVE = "SELECT name, rows FROM remove_conversations($1, $2)"


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
