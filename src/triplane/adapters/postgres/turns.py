"""Turns: opened and finished in one round trip each, by the functions of `0003_turn_functions.sql`."""

from collections.abc import Sequence

import asyncpg
import msgspec

from triplane.adapters.postgres.batches import Batches
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.rows import (
    to_content,
    to_json,
)
from triplane.adapters.postgres.turn_rows import (
    JOINS,
    TURN_COLUMNS,
    input_between,
    to_call,
    to_input,
    to_opened,
    to_record,
)
from triplane.adapters.postgres.usage import REST, call_columns
from triplane.domain.completion import text_of
from triplane.domain.conversation import (
    OpenedTurn,
    Principal,
    StoredMessage,
    TurnCall,
    TurnDetails,
    TurnRecord,
    UsageEvent,
)
from triplane.domain.errors import Conflict, IdempotencyKeyReused, NotFound
from triplane.domain.events import TurnError
from triplane.orchestration.ports import LEASE_S, HeldTurn, LapsedTurn, NewTurn, Renewal, TurnResult

GATHER_S = 0.02
"""How long the renewal of a lease waits for others."""

_Saved = tuple[HeldTurn, str | None, int]
"""A turn that is held, its text so far as JSON, and the log position up to which that is."""


class PostgresTurns:
    """`TurnStore` on PostgreSQL. `aclose` when no turn runs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._renewals = Batches(self._renew_all, GATHER_S)

    async def aclose(self) -> None:
        """Wait for the renewals that are being written."""
        await self._renewals.aclose()

    async def open(self, who: Principal, new: NewTurn) -> OpenedTurn:
        row = await self._database.fetchrow(_OPEN, *_open_arguments(who, new))
        assert row is not None
        match row["outcome"]:
            case "opened":
                return to_opened(row, to_input(new, row), created=True)
            case "known":
                return to_opened(row, await self._input_of(who.tenant_id, row), created=False)
            case "reused":
                raise _reused()
            case "no_parent":
                raise NotFound("The conversation has no such message.", param="parent_id")
            case "unsettled":
                raise Conflict("This message is still being written: wait, or stop it.", param="parent_id")
            case "moved":
                raise Conflict("The conversation has gone on meanwhile.", param="expected_parent")
        raise NotFound("No such conversation.", param="conversation_id")

    async def known(
        self, who: Principal, request_id: str, body_sha256: bytes, conversation_id: str
    ) -> OpenedTurn | None:
        row = await self._database.fetchrow(_KNOWN, who.tenant_id, who.user_id, request_id, conversation_id)
        if row is None:
            return None
        if row["body_sha256"] != body_sha256:
            raise _reused()
        return to_opened(row, await self._input_of(who.tenant_id, row), created=False)

    async def renew(self, held: HeldTurn, text: str, position: int) -> Renewal:
        """Those of one moment, of all turns that run here, are one statement."""
        return await self._renewals.add((held, to_json(text), position))

    async def release(self, held: HeldTurn, text: str, position: int) -> None:
        await self._renew([(held, to_json(text), position)], 0.0)

    async def _renew_all(self, saved: Sequence[_Saved]) -> list[Renewal]:
        rows = await self._renew(saved, LEASE_S)
        stops = {(row["tenant_id"], row["id"], row["fence"]): row["stop_requested"] for row in rows}
        found = (stops.get((held.tenant_id, held.turn_id, held.fence)) for held, _, _ in saved)
        return ["lost" if stop is None else "stop" if stop else "held" for stop in found]

    async def _renew(self, saved: Sequence[_Saved], lease_s: float) -> Sequence[asyncpg.Record]:
        return await self._database.fetch(
            _RENEW,
            [held.tenant_id for held, _, _ in saved],
            [held.turn_id for held, _, _ in saved],
            [held.fence for held, _, _ in saved],
            [text for _, text, _ in saved],
            [position for _, _, position in saved],
            lease_s,
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
            opened=to_opened(row, inputs, created=True, fence=row["fence"]),
            content=text_of(to_content(row["content_json"])),
            log_position=row["log_position"],
            stop_requested=row["stop_requested"],
        )

    async def _input_of(self, tenant_id: str, row: asyncpg.Record) -> list[StoredMessage]:
        return await input_between(self._database, tenant_id, row["message_id"], row["parent_id"])

    async def get(self, who: Principal, turn_id: str) -> TurnRecord:
        row = await self._database.fetchrow(_GET, who.tenant_id, who.user_id, turn_id)
        if row is None:
            raise NotFound("No such turn.", param="turn_id")
        return to_record(row)

    async def details(self, who: Principal, turn_id: str) -> TurnDetails:
        """`RunningTurns`."""
        rows = await self._database.fetch(_CALLS, who.tenant_id, who.user_id, turn_id)
        calls = [TurnCall(call=to_call(row), is_last=row["is_last"]) for row in rows]
        cost = rows[0]["cost_of_all"] if rows else 0
        return TurnDetails(record=await self.get(who, turn_id), calls=calls, cost=cost)

    async def running(
        self, who: Principal, conversation_id: str | None, after: str | None, limit: int
    ) -> tuple[list[TurnRecord], bool]:
        """`RunningTurns`."""
        arguments = (who.tenant_id, who.user_id, conversation_id, after, limit + 1)
        rows = await self._database.fetch(_RUNNING, *arguments)
        if after and not rows:
            await self.get(who, after)
        return [to_record(row) for row in rows[:limit]], len(rows) > limit


_OPEN = """
SELECT * FROM open_turn($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19, $20, $21, $22)"""

_KNOWN = f"""
SELECT t.body_sha256, {TURN_COLUMNS} FROM turns t {JOINS}
WHERE t.tenant_id = $1 AND t.user_id = $2 AND t.request_id = $3 AND t.conversation_id = $4
  AND c.deleted_at IS NULL"""

_RENEW = """
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::json[], $5::bigint[])
        AS given (tenant_id, id, fence, content_json, log_position)
), held AS (
    UPDATE turns t SET
        lease_until = clock_timestamp() + make_interval(secs => $6), log_position = given.log_position
    FROM given
    WHERE t.tenant_id = given.tenant_id AND t.id = given.id AND t.fence = given.fence
      AND t.state = 'streaming'
    RETURNING t.tenant_id, t.id, t.user_id, t.fence, t.message_id, t.stop_requested, given.content_json
), saved AS (
    UPDATE messages m SET content_json = held.content_json
    FROM held WHERE m.tenant_id = held.tenant_id AND m.id = held.message_id
)
SELECT held.tenant_id, held.id, held.fence,
    held.stop_requested OR coalesce(u.disabled_at IS NOT NULL, true) AS stop_requested
FROM held LEFT JOIN users u ON u.tenant_id = held.tenant_id AND u.id = held.user_id"""

_REQUEST_STOP = """
UPDATE turns t SET stop_requested = (state = 'streaming')
FROM conversations c
WHERE t.tenant_id = $1 AND t.user_id = $2 AND t.id = $3
  AND c.tenant_id = t.tenant_id AND c.id = t.conversation_id AND c.deleted_at IS NULL
RETURNING true"""

_FINISH = """
SELECT finish_turn(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)"""

_CLAIM = f"""
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
SELECT t.tenant_id, t.request, t.fence, t.log_position, t.stop_requested, m.content_json, {TURN_COLUMNS}
FROM claimed t {JOINS}"""

_RECORD = """
SELECT t.id, t.conversation_id, t.message_id, t.model, t.state, t.created_at, m.content_json, m.tool_calls,
    m.finish_reason, t.prompt_tokens, t.completion_tokens, t.cached_tokens, t.error_code, t.error_message,
    t.continued_after, t.ended_at, t.time_to_first_token_ms
FROM turns t
JOIN conversations c ON c.tenant_id = t.tenant_id AND c.id = t.conversation_id AND c.deleted_at IS NULL
JOIN messages m ON m.tenant_id = t.tenant_id AND m.id = t.message_id
WHERE t.tenant_id = $1 AND t.user_id = $2"""

_GET = f"{_RECORD} AND t.id = $3"

_RUNNING = f"""{_RECORD} AND t.state = 'streaming' AND ($3::text IS NULL OR t.conversation_id = $3)
    AND ($4::text IS NULL OR (t.created_at, t.id) < (
        SELECT created_at, id FROM turns WHERE tenant_id = $1 AND user_id = $2 AND id = $4))
ORDER BY t.created_at DESC, t.id DESC LIMIT $5"""


# The ids of one completion's calls differ in the attempt (`call_usage_id`); what it is billed later is added.
_CALLS = f"""
SELECT attempt, min(route) AS route, min(replica) AS replica, sum(prompt_tokens)::bigint AS prompt_tokens,
    sum(completion_tokens)::bigint AS completion_tokens, sum(cached_tokens)::bigint AS cached_tokens,
    sum(cost)::bigint AS cost, (sum(sum(cost)) OVER ())::bigint AS cost_of_all,
    attempt = max(attempt) OVER (PARTITION BY completion) AS is_last
FROM (
    SELECT *, regexp_replace(id, '_[0-9]+({REST})?$', '') AS completion FROM usage_events
    WHERE tenant_id = $1 AND user_id = $2 AND turn_id = $3
) billed
GROUP BY completion, attempt ORDER BY min(created_at), completion, attempt LIMIT 100"""


def _reused() -> IdempotencyKeyReused:
    return IdempotencyKeyReused("This request id was used before, with another body.")


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
        new.parent_id or None,
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
        new.parent_id is None,
        new.expected_parent is not msgspec.UNSET,
        new.expected_parent or None,
    ]


def _finish_arguments(who: Principal, result: TurnResult) -> list[object]:
    error = result.error or TurnError(code="", message="")
    return [
        who.tenant_id,
        who.user_id,
        result.turn_id,
        result.fence,
        result.log_position,
        result.status,
        to_json(result.content),
        to_json(result.tool_calls),
        result.finish_reason,
        result.token_count,
        error.code or None,
        error.message or None,
        result.window_from_seq,
        result.window_summary,
        *_bill_arguments(result.usage_events),
        result.earlier_usage.prompt_tokens,
        result.earlier_usage.completion_tokens,
        result.earlier_usage.cached_tokens,
        [job.entrypoint for job in result.jobs],
        [job.payload for job in result.jobs],
        [job.dedupe_key for job in result.jobs],
        result.time_to_first_token_ms,
    ]


def _bill_arguments(events: list[UsageEvent]) -> list[object]:
    """They are one completion's, so that only the calls differ."""
    first = events[0] if events else None
    return [
        first.api_key_id if first else None,
        first.request_id if first else None,
        first.model if first else None,
        *call_columns(events),
    ]
