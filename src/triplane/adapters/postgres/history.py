"""Windows and summaries: what a prompt is rebuilt from when the hot window is lost.

A turn's row says where its prompt began and which summary stood for what is older, so each branch has its own
window, and reading one costs what a prompt holds and not what the conversation holds.
"""

from collections.abc import Sequence

import asyncpg

from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.rows import MESSAGE_COLUMNS, to_message
from triplane.domain.conversation import Principal, Summary
from triplane.domain.errors import NotFound
from triplane.orchestration.history_ports import Unsummarised, Window


class PostgresHistory:
    """`HistoryStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def window(self, who: Principal, conversation_id: str, leaf_id: str) -> Window:
        """Raises NotFound if the conversation has no message `leaf_id`."""
        rows = await self._database.fetch(_WINDOW, *_key(who, conversation_id), leaf_id)
        if not rows:
            raise NotFound("The conversation has no such message.", param="parent_id")
        return Window(
            leaf_id=leaf_id, messages=[to_message(row) for row in rows], summary=_summary_beside(rows[0])
        )

    async def newest_summary(
        self, who: Principal, conversation_id: str, message_ids: Sequence[str]
    ) -> Summary | None:
        row = await self._database.fetchrow(_NEWEST, *_key(who, conversation_id), list(message_ids))
        return _summary(row) if row else None

    async def active_summary(self, who: Principal, conversation_id: str) -> Summary | None:
        row = await self._database.fetchrow(_ACTIVE, *_key(who, conversation_id))
        if row is None:
            raise NotFound("No such conversation.", param="conversation_id")
        return _summary_beside(row)

    async def unsummarised(
        self, who: Principal, conversation_id: str, before_id: str, limit: int
    ) -> Unsummarised:
        """Raises NotFound if the conversation has no message `before_id`. No messages: there is a summary."""
        rows = await self._database.fetch(_UNSUMMARISED, *_key(who, conversation_id), before_id, limit)
        if not rows:
            raise NotFound("The conversation has no such message.", param="before_id")
        above = [row for row in rows if row["id"] != before_id]
        if not above:
            return Unsummarised(previous=None, messages=[])
        return Unsummarised(previous=_summary_beside(above[0]), messages=[to_message(row) for row in above])

    async def add_summary(self, who: Principal, conversation_id: str, summary: Summary) -> None:
        await self._database.execute(
            _ADD,
            *_key(who, conversation_id),
            summary.from_message_id,
            summary.upto_seq,
            summary.text,
            summary.token_count,
            summary.created_at,
        )


_SUMMARY_COLUMNS = "s.from_message_id, s.upto_seq, s.text, s.token_count, s.created_at"
_BESIDE = (
    "s.from_message_id, s.upto_seq, s.text, s.token_count AS summary_tokens, s.created_at AS summarised_at"
)
"""A summary's columns in a row that is a message's too."""

_MINE = "c.tenant_id = $1 AND c.user_id = $2 AND c.id = $3 AND c.deleted_at IS NULL"
_COLUMNS = ", ".join(f"path.{column}" for column in MESSAGE_COLUMNS.split(", "))

_WINDOW = f"""
WITH RECURSIVE start AS (
    SELECT w.* FROM conversations c CROSS JOIN window_after($1, $4) w WHERE {_MINE}
), path AS (
    SELECT m.* FROM messages m, start
    WHERE m.tenant_id = $1 AND m.id = $4 AND m.conversation_id = $3 AND m.seq >= start.from_seq
    UNION ALL
    -- LIMIT keeps the planner to one look-up by primary key for each step.
    SELECT above.* FROM path CROSS JOIN LATERAL (
        SELECT * FROM messages WHERE tenant_id = $1 AND id = path.parent_id LIMIT 1
    ) above WHERE above.seq >= (SELECT from_seq FROM start)
)
SELECT {_COLUMNS}, {_BESIDE}
FROM path CROSS JOIN start LEFT JOIN summaries s
    ON s.tenant_id = $1 AND s.conversation_id = $3 AND s.from_message_id = start.summary
ORDER BY path.seq"""

_NEWEST = f"""
SELECT {_SUMMARY_COLUMNS} FROM conversations c JOIN summaries s
    ON s.tenant_id = c.tenant_id AND s.conversation_id = c.id AND s.from_message_id = ANY($4::text[])
WHERE {_MINE} ORDER BY s.upto_seq DESC LIMIT 1"""

_ACTIVE = f"""
SELECT {_BESIDE} FROM conversations c
CROSS JOIN LATERAL window_after(c.tenant_id, c.active_leaf) w
LEFT JOIN summaries s
    ON s.tenant_id = c.tenant_id AND s.conversation_id = c.id AND s.from_message_id = w.summary
WHERE {_MINE}"""

# Up from the message, at the first one that a summary begins at the way ends: that summary tells of the rest.
_UNSUMMARISED = f"""
WITH RECURSIVE path AS (
    SELECT m.*, 0 AS steps FROM conversations c JOIN messages m
        ON m.tenant_id = c.tenant_id AND m.conversation_id = c.id AND m.id = $4
    WHERE {_MINE}
    UNION ALL
    SELECT above.*, path.steps + 1 FROM path CROSS JOIN LATERAL (
        SELECT * FROM messages WHERE tenant_id = $1 AND id = path.parent_id LIMIT 1
    ) above
    WHERE path.steps < $5 AND NOT EXISTS (
        SELECT FROM summaries WHERE tenant_id = $1 AND conversation_id = $3 AND from_message_id = path.id
    )
)
SELECT {_COLUMNS}, {_BESIDE}
FROM path LEFT JOIN summaries s
    ON s.tenant_id = $1 AND s.conversation_id = $3 AND s.from_message_id = path.id
ORDER BY path.seq"""

_ADD = """
INSERT INTO summaries (tenant_id, conversation_id, from_message_id, upto_seq, text, token_count, created_at)
SELECT c.tenant_id, c.id, $4, $5, $6, $7, $8 FROM conversations c
WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.id = $3 AND c.deleted_at IS NULL
ON CONFLICT (tenant_id, conversation_id, from_message_id) DO NOTHING"""


def _key(who: Principal, conversation_id: str) -> tuple[str, str, str]:
    return who.tenant_id, who.user_id, conversation_id


def _summary(row: asyncpg.Record) -> Summary:
    return Summary(
        from_message_id=row["from_message_id"],
        upto_seq=row["upto_seq"],
        text=row["text"],
        token_count=row["token_count"],
        created_at=row["created_at"],
    )


def _summary_beside(row: asyncpg.Record) -> Summary | None:
    if row["from_message_id"] is None:
        return None
    return Summary(
        from_message_id=row["from_message_id"],
        upto_seq=row["upto_seq"],
        text=row["text"],
        token_count=row["summary_tokens"],
        created_at=row["summarised_at"],
    )
