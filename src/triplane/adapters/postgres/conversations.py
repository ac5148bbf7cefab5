"""Conversations and their messages. A deleted one is a tombstone: every query passes it by."""

from collections.abc import Sequence

import asyncpg
import msgspec

from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.rows import (
    CONVERSATION_COLUMNS,
    MESSAGE_COLUMNS,
    to_conversation,
    to_json,
    to_message,
)
from triplane.domain.completion import Message
from triplane.domain.conversation import Conversation, Principal, StoredMessage
from triplane.domain.errors import NotFound
from triplane.domain.ids import new_id
from triplane.orchestration.conversation_ports import (
    BulkAction,
    ConversationChange,
    ConversationFilter,
    NewConversation,
)


class PostgresConversations:
    """`ConversationStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        who: Principal,
        title: str | None,
        metadata: dict[str, str],
        items: Sequence[Message],
        place: NewConversation | None = None,
    ) -> Conversation:
        place = place or NewConversation()
        row = await self._database.fetchrow(
            _CREATE,
            who.tenant_id,
            new_id("conv"),
            who.user_id,
            title,
            to_json(metadata),
            [new_id("msg") for _ in items],
            [item.role for item in items],
            [to_json(item.content) for item in items],
            [to_json(item.tool_calls) for item in items],
            [item.tool_call_id for item in items],
            place.project_id,
            place.temporary,
            to_json(place.settings),
        )
        if row is None:
            raise no_project()
        return to_conversation(row)

    async def get(self, who: Principal, conversation_id: str) -> Conversation:
        return _found(await self._database.fetchrow(_GET, *_key(who, conversation_id)))

    async def list_page(
        self, who: Principal, after: str | None, limit: int, which: ConversationFilter | None = None
    ) -> tuple[list[Conversation], bool]:
        """Raises NotFound if there is, and was, no conversation `after`."""
        which = which or ConversationFilter()
        arguments = (
            who.tenant_id,
            who.user_id,
            limit + 1,
            which.archived,
            which.pinned,
            which.project_id is not msgspec.UNSET,
            None if which.project_id is msgspec.UNSET else which.project_id,
        )
        if after is None:
            rows = await self._database.fetch(_FIRST_PAGE, *arguments)
        else:
            rows = await self._database.fetch(_NEXT_PAGE, *arguments, after)
            if not rows and not await self._database.fetchval(_EXISTED, who.tenant_id, who.user_id, after):
                raise NotFound("No such conversation.", param="after")
        return [to_conversation(row) for row in rows[:limit]], len(rows) > limit

    async def update(
        self,
        who: Principal,
        conversation_id: str,
        title: str | None,
        metadata: dict[str, str] | None,
        active_leaf: str | None = None,
        marks: ConversationChange | None = None,
    ) -> Conversation:
        key, marks = _key(who, conversation_id), marks or ConversationChange()
        if active_leaf:
            await self._activate(key, active_leaf)
        row = await self._database.fetchrow(
            _UPDATE,
            *key,
            title,
            to_json(metadata),
            marks.pinned,
            marks.archived,
            marks.project_id is not msgspec.UNSET,
            marks.project_id or None,
            to_json(marks.settings),
        )
        if row is None and marks.project_id and await self._database.fetchval(_IS_MINE, *key):
            raise no_project()
        return _found(row)

    async def _activate(self, key: tuple[str, str, str], message_id: str) -> None:
        row = await self._database.fetchrow(_ACTIVATE, *key, message_id)
        if row is None:
            raise _no_conversation()
        if not row["is_found"]:
            raise NotFound("The conversation has no such message.", param="active_leaf")

    async def set_generated_title(self, tenant_id: str, conversation_id: str, title: str) -> bool:
        return bool(await self._database.fetchval(_SET_TITLE, tenant_id, conversation_id, title))

    async def delete(self, who: Principal, conversation_id: str) -> None:
        if not await self._database.fetchval(_DELETE, *_key(who, conversation_id)):
            raise _no_conversation()

    async def restore(self, who: Principal, conversation_id: str) -> Conversation:
        return _found(await self._database.fetchrow(_RESTORE, *_key(who, conversation_id)))

    async def change_many(
        self, who: Principal, ids: Sequence[str], action: BulkAction, project_id: str | None
    ) -> list[Conversation]:
        if project_id and not await self._database.fetchval(_HAS_PROJECT, *_key(who, project_id)):
            raise no_project()
        rows = await self._database.fetch(
            _CHANGE_MANY, who.tenant_id, who.user_id, list(ids), action, project_id
        )
        return [to_conversation(row) for row in rows]

    async def model_of(self, who: Principal, conversation_id: str) -> str | None:
        row = await self._database.fetchrow(_MODEL_OF, *_key(who, conversation_id))
        if row is None:
            raise _no_conversation()
        model: str | None = row["model"]
        return model

    async def messages(
        self, who: Principal, conversation_id: str, after_seq: int, limit: int, *, only_active: bool = False
    ) -> tuple[list[StoredMessage], bool]:
        key = _key(who, conversation_id)
        query = _ACTIVE_PATH if only_active else _MESSAGES
        rows = _rows(await self._database.fetch(query, *key, after_seq, limit + 1))
        return [to_message(row) for row in rows[:limit]], len(rows) > limit

    async def messages_before(
        self, who: Principal, conversation_id: str, before_seq: int, limit: int
    ) -> tuple[list[StoredMessage], bool]:
        key = _key(who, conversation_id)
        rows = _rows(await self._database.fetch(_MESSAGES_BEFORE, *key, before_seq, limit + 1))
        return [to_message(row) for row in rows[-limit:]], len(rows) > limit

    async def path(
        self, who: Principal, conversation_id: str, leaf_id: str, from_seq: int
    ) -> list[StoredMessage]:
        """Raises NotFound if the conversation has no message `leaf_id`."""
        rows = _rows(await self._database.fetch(_PATH, *_key(who, conversation_id), leaf_id, from_seq))
        if not rows:
            raise NotFound("The conversation has no such message.", param="parent_id")
        return [to_message(row) for row in rows]


_MINE = "tenant_id = $1 AND user_id = $2 AND id = $3 AND deleted_at IS NULL"
"""A conversation that this user may see: `_key` gives the arguments."""

_CREATE = f"""
WITH items AS (
    SELECT * FROM unnest($6::text[], $7::text[], $8::json[], $9::json[], $10::text[])
        WITH ORDINALITY AS i (id, role, content_json, tool_calls, tool_call_id, place)
), conversation AS (
    INSERT INTO conversations (tenant_id, id, user_id, title, title_source, metadata, last_seq, active_leaf,
        project_id, temporary, settings)
    SELECT $1, $2, $3, $4, CASE WHEN $4::text IS NULL THEN NULL ELSE 'user' END, $5::jsonb,
        cardinality($6::text[]), ($6::text[])[cardinality($6::text[])], $11, $12, $13::jsonb
    WHERE $11::text IS NULL
       OR EXISTS (SELECT FROM projects WHERE tenant_id = $1 AND user_id = $3 AND id = $11)
    RETURNING {CONVERSATION_COLUMNS}
), written AS (
    INSERT INTO messages (tenant_id, id, conversation_id, seq, parent_id, role, status, content_json,
        tool_calls, tool_call_id)
    SELECT $1, items.id, conversation.id, place, lag(items.id) OVER (ORDER BY place), role, 'complete',
        content_json, tool_calls, tool_call_id
    FROM items CROSS JOIN conversation
)
SELECT * FROM conversation"""

_GET = f"SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE {_MINE}"

_LISTED = """tenant_id = $1 AND user_id = $2 AND deleted_at IS NULL AND NOT temporary AND archived = $4
    AND ($5::boolean IS NULL OR pinned = $5) AND (NOT $6 OR project_id IS NOT DISTINCT FROM $7::text)"""

_FIRST_PAGE = f"""
SELECT {CONVERSATION_COLUMNS} FROM conversations
WHERE {_LISTED}
ORDER BY updated_at DESC, id DESC LIMIT $3"""

_NEXT_PAGE = f"""
SELECT {CONVERSATION_COLUMNS} FROM conversations
WHERE {_LISTED} AND (updated_at, id) < (
    SELECT updated_at, id FROM conversations WHERE tenant_id = $1 AND user_id = $2 AND id = $8)
ORDER BY updated_at DESC, id DESC LIMIT $3"""

_EXISTED = "SELECT EXISTS (SELECT FROM conversations WHERE tenant_id = $1 AND user_id = $2 AND id = $3)"

_UPDATE = f"""
UPDATE conversations SET
    title = coalesce($4, title),
    title_source = CASE WHEN $4::text IS NULL THEN title_source ELSE 'user' END,
    metadata = coalesce($5::jsonb, metadata),
    pinned = coalesce($6, pinned),
    archived = coalesce($7, archived),
    project_id = CASE WHEN $8 THEN $9::text ELSE project_id END,
    settings = coalesce($10::jsonb, settings)
WHERE {_MINE} AND (
    $9::text IS NULL OR EXISTS (SELECT FROM projects WHERE tenant_id = $1 AND user_id = $2 AND id = $9)
) RETURNING {CONVERSATION_COLUMNS}"""

_IS_MINE = f"SELECT EXISTS (SELECT FROM conversations WHERE {_MINE})"
_HAS_PROJECT = "SELECT EXISTS (SELECT FROM projects WHERE tenant_id = $1 AND user_id = $2 AND id = $3)"

_CHANGE_MANY = f"""
UPDATE conversations SET
    archived = CASE $4 WHEN 'archive' THEN true WHEN 'unarchive' THEN false ELSE archived END,
    pinned = CASE $4 WHEN 'pin' THEN true WHEN 'unpin' THEN false ELSE pinned END,
    project_id = CASE $4 WHEN 'move' THEN $5::text ELSE project_id END,
    deleted_at = CASE $4 WHEN 'delete' THEN now() WHEN 'restore' THEN NULL ELSE deleted_at END
WHERE tenant_id = $1 AND user_id = $2 AND id = ANY($3::text[]) AND (deleted_at IS NULL OR $4 = 'restore')
RETURNING {CONVERSATION_COLUMNS}"""

_RESTORE = f"""
UPDATE conversations SET deleted_at = NULL WHERE tenant_id = $1 AND user_id = $2 AND id = $3
RETURNING {CONVERSATION_COLUMNS}"""

_MODEL_OF = """
SELECT coalesce(c.settings ->> 'model', u.settings ->> 'default_model') AS model
FROM conversations c JOIN users u ON u.tenant_id = c.tenant_id AND u.id = c.user_id
WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.id = $3 AND c.deleted_at IS NULL"""

# The newest message below another is a leaf: what is below is always newer.
_ACTIVATE = f"""
WITH RECURSIVE below AS (
    SELECT m.id, m.seq FROM messages m WHERE m.tenant_id = $1 AND m.conversation_id = $3 AND m.id = $4
    UNION ALL
    SELECT child.id, child.seq FROM below CROSS JOIN LATERAL (
        SELECT id, seq FROM messages WHERE tenant_id = $1 AND conversation_id = $3 AND parent_id = below.id
        OFFSET 0
    ) child
), newest AS (
    SELECT id FROM below ORDER BY seq DESC LIMIT 1
)
UPDATE conversations SET active_leaf = coalesce((SELECT id FROM newest), active_leaf)
WHERE {_MINE} RETURNING EXISTS (SELECT FROM newest) AS is_found"""

_SET_TITLE = """
UPDATE conversations SET title = $3, title_source = 'generated'
WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL AND title_source IS DISTINCT FROM 'user'
RETURNING true"""

_DELETE = f"UPDATE conversations SET deleted_at = now() WHERE {_MINE} RETURNING true"

_MESSAGES = f"""
SELECT m.* FROM conversations c LEFT JOIN LATERAL (
    SELECT {MESSAGE_COLUMNS} FROM messages
    WHERE tenant_id = c.tenant_id AND conversation_id = c.id AND seq > $4
    ORDER BY seq LIMIT $5
) m ON true
WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.id = $3 AND c.deleted_at IS NULL
ORDER BY m.seq"""

_MESSAGES_BEFORE = f"""
SELECT m.* FROM conversations c LEFT JOIN LATERAL (
    SELECT {MESSAGE_COLUMNS} FROM messages
    WHERE tenant_id = c.tenant_id AND conversation_id = c.id AND seq < $4
    ORDER BY seq DESC LIMIT $5
) m ON true
WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.id = $3 AND c.deleted_at IS NULL
ORDER BY m.seq"""

_ACTIVE_PATH = f"""
WITH RECURSIVE path AS (
    SELECT m.* FROM conversations c JOIN messages m ON m.tenant_id = c.tenant_id AND m.id = c.active_leaf
    WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.id = $3 AND m.seq > $4
    UNION ALL
    SELECT above.* FROM path CROSS JOIN LATERAL (
        SELECT * FROM messages WHERE tenant_id = $1 AND id = path.parent_id LIMIT 1
    ) above WHERE above.seq > $4
)
SELECT {", ".join(f"path.{column}" for column in MESSAGE_COLUMNS.split(", "))}
FROM conversations c LEFT JOIN path ON true
WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.id = $3 AND c.deleted_at IS NULL
ORDER BY path.seq LIMIT $5"""

_PATH = f"""
WITH RECURSIVE path AS (
    SELECT m.* FROM messages m
    WHERE m.tenant_id = $1 AND m.id = $4 AND m.conversation_id = $3 AND m.seq >= $5
    UNION ALL
    -- LIMIT keeps the planner to one look-up by primary key for each step.
    SELECT above.* FROM path CROSS JOIN LATERAL (
        SELECT * FROM messages WHERE tenant_id = $1 AND id = path.parent_id LIMIT 1
    ) above WHERE above.seq >= $5
)
SELECT {", ".join(f"path.{column}" for column in MESSAGE_COLUMNS.split(", "))}
FROM conversations c LEFT JOIN path ON true
WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.id = $3 AND c.deleted_at IS NULL
ORDER BY path.seq"""


def _key(who: Principal, conversation_id: str) -> tuple[str, str, str]:
    return who.tenant_id, who.user_id, conversation_id


def _found(row: asyncpg.Record | None) -> Conversation:
    if row is None:
        raise _no_conversation()
    return to_conversation(row)


def _rows(rows: Sequence[asyncpg.Record]) -> Sequence[asyncpg.Record]:
    """The messages of a query that answers one row of nulls for a conversation without any."""
    if not rows:
        raise _no_conversation()
    return [] if rows[0]["id"] is None else rows


def no_project() -> NotFound:
    return NotFound("No such project.", param="project_id")


def _no_conversation() -> NotFound:
    return NotFound("No such conversation.", param="conversation_id")
