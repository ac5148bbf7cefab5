"""Turns: opened and finished in one round trip each, by the functions of `0003_turn_functions.sql`."""

import asyncpg

from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.rows import (
    MESSAGE_COLUMNS,
    to_content,
    to_json,
    to_message,
    to_metadata,
    to_tool_calls,
)
from triplane.domain.completion import text_of
from triplane.domain.conversation import (
    Conversation,
    NewMessage,
    OpenedTurn,
    Principal,
    StoredMessage,
    TurnRecord,
    UsageEvent,
)
from triplane.domain.errors import IdempotencyKeyReused, NotFound
from triplane.domain.events import TurnError, Usage
from triplane.orchestration.ports import LEASE_S, HeldTurn, LapsedTurn, NewTurn, Renewal, TurnResult


class PostgresTurns:
    """`TurnStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, who: Principal, new: NewTurn) -> OpenedTurn:
        row = await self._database.fetchrow(_OPEN, *_open_arguments(who, new))
        assert row is not None
        match row["outcome"]:
            case "opened":
                return _opened(row, _input_rows(new, row), created=True)
            case "known":
                return _opened(row, await self._input_of(who.tenant_id, row), created=False)
            case "reused":
                raise IdempotencyKeyReused("This request id was used before, with another body.")
            case "no_parent":
                raise NotFound("The conversation has no such message.", param="parent_id")
        raise NotFound("No such conversation.", param="conversation_id")

    async def renew(self, held: HeldTurn, text: str, position: int) -> Renewal:
        stop = await self._database.fetchval(
            _RENEW, held.tenant_id, held.turn_id, held.fence, to_json(text), position, LEASE_S
        )
        if stop is None:
            return "lost"
        return "stop" if stop else "held"

    async def release(self, held: HeldTurn, text: str, position: int) -> None:
        await self._database.execute(
            _RENEW, held.tenant_id, held.turn_id, held.fence, to_json(text), position, 0.0
        )

    async def request_stop(self, who: Principal, turn_id: str) -> None:
        found = await self._database.fetchval(_REQUEST_STOP, who.tenant_id, who.user_id, turn_id)
        if found is None:
            raise NotFound("No such turn.", param="turn_id")

    async def finish(self, who: Principal, result: TurnResult) -> bool:
        """Raises NotFound, and ValueError for a result that isn't an end."""
        if result.status == "streaming":
            raise ValueError("A turn ends with another status than streaming.")
        ended = await self._database.fetchval(_FINISH, *_finish_arguments(who, result))
        if ended is None:
            raise NotFound("No such turn.", param="turn_id")
        return bool(ended)

    async def claim_lapsed(self, owner: str, limit: int) -> list[LapsedTurn]:
        rows = await self._database.fetch(_CLAIM, owner, LEASE_S, limit)
        return [await self._lapsed(row) for row in rows]

    async def _lapsed(self, row: asyncpg.Record) -> LapsedTurn:
        inputs = await self._input_of(row["tenant_id"], row)
        return LapsedTurn(
            request=row["request"].encode(),
            opened=_opened(row, inputs, created=True, fence=row["fence"]),
            content=text_of(to_content(row["content_json"])),
            log_position=row["log_position"],
            stop_requested=row["stop_requested"],
        )

    async def _input_of(self, tenant_id: str, row: asyncpg.Record) -> list[StoredMessage]:
        key = (tenant_id, row["conversation_id"], row["turn_id"], row["message_id"])
        return [to_message(each) for each in await self._database.fetch(_INPUT, *key)]

    async def get(self, who: Principal, turn_id: str) -> TurnRecord:
        row = await self._database.fetchrow(_GET, who.tenant_id, who.user_id, turn_id)
        if row is None:
            raise NotFound("No such turn.", param="turn_id")
        return _record(row)


_OPEN = """
SELECT * FROM open_turn($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19)"""

_INPUT = f"""
SELECT {MESSAGE_COLUMNS} FROM messages
WHERE tenant_id = $1 AND conversation_id = $2 AND turn_id = $3 AND id <> $4 ORDER BY seq"""

_RENEW = """
WITH held AS (
    UPDATE turns SET lease_until = clock_timestamp() + make_interval(secs => $6), log_position = $5
    WHERE tenant_id = $1 AND id = $2 AND fence = $3 AND state = 'streaming'
    RETURNING message_id, stop_requested
), saved AS (
    UPDATE messages m SET content_json = $4 FROM held WHERE m.tenant_id = $1 AND m.id = held.message_id
)
SELECT stop_requested FROM held"""

_REQUEST_STOP = """
UPDATE turns t SET stop_requested = (state = 'streaming')
FROM conversations c
WHERE t.tenant_id = $1 AND t.user_id = $2 AND t.id = $3
  AND c.tenant_id = t.tenant_id AND c.id = t.conversation_id AND c.deleted_at IS NULL
RETURNING true"""

_FINISH = """
SELECT finish_turn(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22, $23, $24)"""

_CLAIM = """
WITH lapsed AS (
    SELECT tenant_id, id FROM turns
    WHERE state = 'streaming' AND lease_until < clock_timestamp() AND request IS NOT NULL
    ORDER BY lease_until LIMIT $3 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE turns t SET
        fence = t.fence + 1, lease_owner = $1, lease_until = clock_timestamp() + make_interval(secs => $2)
    FROM lapsed WHERE t.tenant_id = lapsed.tenant_id AND t.id = lapsed.id
    RETURNING t.*
)
SELECT t.tenant_id, t.request, t.fence, t.log_position, t.stop_requested,
    t.id AS turn_id, t.message_id, t.parent_id, t.state, t.created_at AS turn_created_at,
    m.seq AS draft_seq, m.content_json,
    c.id AS conversation_id, c.title, c.metadata, c.last_seq, c.window_from_seq, c.created_at, c.updated_at
FROM claimed t
JOIN messages m ON m.tenant_id = t.tenant_id AND m.id = t.message_id
JOIN conversations c ON c.tenant_id = t.tenant_id AND c.id = t.conversation_id"""

_GET = """
SELECT t.id, t.conversation_id, t.message_id, t.model, t.state, t.created_at, m.content_json, m.tool_calls,
    m.finish_reason, t.prompt_tokens, t.completion_tokens, t.cached_tokens, t.error_code, t.error_message
FROM turns t
JOIN conversations c ON c.tenant_id = t.tenant_id AND c.id = t.conversation_id AND c.deleted_at IS NULL
JOIN messages m ON m.tenant_id = t.tenant_id AND m.id = t.message_id
WHERE t.tenant_id = $1 AND t.user_id = $2 AND t.id = $3"""


def _open_arguments(who: Principal, new: NewTurn) -> list[object]:
    messages = [each.message for each in new.messages]
    return [
        who.tenant_id,
        who.user_id,
        new.conversation_id,
        new.turn_id,
        new.request_id,
        new.body_sha256,
        new.model,
        new.parent_id,
        new.draft_id,
        new.provisional_title,
        [each.id for each in new.messages],
        [message.role for message in messages],
        [to_json(message.content) for message in messages],
        [to_json(message.tool_calls) for message in messages],
        [message.tool_call_id for message in messages],
        [each.token_count for each in new.messages],
        new.request.decode() if new.request else None,
        new.lease_owner,
        LEASE_S,
    ]


def _input_rows(new: NewTurn, row: asyncpg.Record) -> list[StoredMessage]:
    """The rows as `open_turn` has just written them: what it answers is enough to know them."""
    first_seq = row["draft_seq"] - len(new.messages)
    parents = [row["parent_id"], *(each.id for each in new.messages)]
    return [
        _input_row(each, first_seq + place, parents[place], row) for place, each in enumerate(new.messages)
    ]


def _input_row(new: NewMessage, seq: int, parent_id: str | None, row: asyncpg.Record) -> StoredMessage:
    return StoredMessage(
        id=new.id,
        seq=seq,
        role=new.message.role,
        content=new.message.content,
        status="complete",
        created_at=row["turn_created_at"],
        parent_id=parent_id,
        turn_id=row["turn_id"],
        tool_calls=new.message.tool_calls,
        tool_call_id=new.message.tool_call_id,
        token_count=new.token_count,
    )


def _opened(
    row: asyncpg.Record, input_messages: list[StoredMessage], *, created: bool, fence: int = 1
) -> OpenedTurn:
    return OpenedTurn(
        turn_id=row["turn_id"],
        conversation=Conversation(
            id=row["conversation_id"],
            title=row["title"],
            metadata=to_metadata(row["metadata"]),
            last_seq=row["last_seq"],
            window_from_seq=row["window_from_seq"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        ),
        message_id=row["message_id"],
        parent_id=row["parent_id"],
        input_messages=input_messages,
        draft_seq=row["draft_seq"],
        status=row["state"],
        created_at=row["turn_created_at"],
        created=created,
        fence=fence,
    )


def _finish_arguments(who: Principal, result: TurnResult) -> list[object]:
    error = result.error or TurnError(code="", message="")
    bill = result.usage_event
    usage = bill.usage if bill else Usage()
    return [
        who.tenant_id,
        who.user_id,
        result.turn_id,
        result.fence,
        result.status,
        to_json(result.content),
        to_json(result.tool_calls),
        result.finish_reason,
        result.token_count,
        error.code or None,
        error.message or None,
        result.window_from_seq,
        *_bill_arguments(bill),
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        result.earlier_usage.prompt_tokens,
        result.earlier_usage.completion_tokens,
        result.earlier_usage.cached_tokens,
        result.title_job,
    ]


def _bill_arguments(bill: UsageEvent | None) -> list[object]:
    if bill is None:
        return [None] * 5
    return [bill.id, bill.api_key_id, bill.request_id, bill.model, bill.engine]


def _record(row: asyncpg.Record) -> TurnRecord:
    return TurnRecord(
        id=row["id"],
        conversation_id=row["conversation_id"],
        message_id=row["message_id"],
        model=row["model"],
        status=row["state"],
        created_at=row["created_at"],
        content=text_of(to_content(row["content_json"])),
        tool_calls=to_tool_calls(row["tool_calls"]),
        finish_reason=row["finish_reason"],
        usage=Usage(
            prompt_tokens=row["prompt_tokens"],
            completion_tokens=row["completion_tokens"],
            cached_tokens=row["cached_tokens"],
        ),
        error_code=row["error_code"],
        error_message=row["error_message"],
    )
