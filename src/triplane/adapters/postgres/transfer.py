"""Conversations read whole for an export, and written whole by an import."""

from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.rows import CONVERSATION_COLUMNS, to_conversation, to_json
from triplane.domain.conversation import Conversation, Principal
from triplane.domain.ids import new_id
from triplane.domain.secrets import sha256_of
from triplane.orchestration.transfer import TransferredConversation, imported_key


class PostgresTransfer:
    """`TransferStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def conversations(self, who: Principal, after_id: str | None, limit: int) -> list[Conversation]:
        rows = await self._database.fetch(_ALL, who.tenant_id, who.user_id, after_id, limit)
        return [to_conversation(row) for row in rows]

    async def add(self, who: Principal, source: str, conversation: TransferredConversation) -> bool:
        key = sha256_of(imported_key(source, conversation.id))
        ids = {message.id: new_id("msg") for message in conversation.messages}
        messages = conversation.messages
        async with self._database.connection() as connection, connection.transaction():
            # Two imports of one user at once make each conversation once.
            await connection.execute(_LOCK, who.user_id)
            if await connection.fetchval(_KNOWN, who.tenant_id, who.user_id, key, conversation.id):
                return False
            conversation_id = new_id("conv")
            await connection.execute(
                _ADD,
                who.tenant_id,
                conversation_id,
                who.user_id,
                conversation.title,
                to_json(conversation.metadata),
                len(messages),
                ids.get(conversation.active_leaf or "") or (ids[messages[-1].id] if messages else None),
                conversation.pinned,
                conversation.archived,
                to_json(conversation.settings),
                key,
                conversation.created_at,
                conversation.updated_at,
            )
            await connection.execute(
                _ADD_MESSAGES,
                who.tenant_id,
                conversation_id,
                [ids[message.id] for message in messages],
                [ids[message.parent_id] if message.parent_id else None for message in messages],
                [message.role for message in messages],
                [message.status for message in messages],
                [to_json(message.content) for message in messages],
                [to_json(message.tool_calls) for message in messages],
                [message.tool_call_id for message in messages],
                [message.model for message in messages],
                [message.finish_reason for message in messages],
                [message.created_at for message in messages],
            )
        return True


_ALL = f"""
SELECT {CONVERSATION_COLUMNS} FROM conversations
WHERE tenant_id = $1 AND user_id = $2 AND ($3::text IS NULL OR id > $3) AND deleted_at IS NULL
  AND NOT temporary
ORDER BY id LIMIT $4"""

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"

_KNOWN = """
SELECT EXISTS (
    SELECT FROM conversations
    WHERE tenant_id = $1 AND user_id = $2 AND deleted_at IS NULL AND (imported_from = $3 OR id = $4))"""

_ADD = """
INSERT INTO conversations (tenant_id, id, user_id, title, title_source, metadata, last_seq, active_leaf,
    pinned, archived, settings, imported_from, created_at, updated_at)
VALUES ($1, $2, $3, $4, CASE WHEN $4::text IS NULL THEN NULL ELSE 'user' END, $5::jsonb, $6, $7, $8, $9,
    $10::jsonb, $11, $12, $13)"""

_ADD_MESSAGES = """
INSERT INTO messages (tenant_id, id, conversation_id, seq, parent_id, role, status, content_json, tool_calls,
    tool_call_id, model, finish_reason, created_at)
SELECT $1, id, $2, place, parent_id, role, status, content, calls, call_id, model, reason, created_at
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::json[], $8::json[], $9::text[], $10::text[],
    $11::text[], $12::timestamptz[]) WITH ORDINALITY
    AS m (id, parent_id, role, status, content, calls, call_id, model, reason, created_at, place)"""
