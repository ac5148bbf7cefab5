"""The bill: usage events are appended, never changed."""

import asyncio
from collections.abc import Sequence

import asyncpg

from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import UsageEvent
from triplane.domain.errors import StoreUnavailable, TriplaneError

GATHER_S = 0.02
"""How long an event waits for others to be written with: what SIGKILL can take of the bill of a stateless
answer that has ended. A turn's bill is written with its end."""

_MOST_AT_ONCE = 500

_Pending = tuple[Sequence[UsageEvent], "asyncio.Future[None]"]
"""What one caller wants stored, and how it is told."""


class PostgresUsage:
    """`UsageStore` on PostgreSQL. Events of one moment are one statement; each caller waits until its own
    is stored. `aclose` when nobody records any more."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: list[_Pending] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, events: Sequence[UsageEvent]) -> None:
        if not events:
            return
        stored = asyncio.get_running_loop().create_future()
        self._pending.append((events, stored))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await stored

    async def record_attempt(self, events: Sequence[UsageEvent]) -> None:
        recorded = {row["id"] for row in await self._database.fetch(_RECORD, *_columns(events))}
        known = [event for event in events if event.id not in recorded]
        if known:
            # Of its own, because a statement doesn't see the rows that it has just run into.
            await self._database.execute(
                _RECORD_REST, [event.tenant_id for event in known], *call_columns(known)
            )

    async def aclose(self) -> None:
        """Wait for what is being written."""
        if self._writing:
            await asyncio.wait((self._writing,))

    async def _write(self) -> None:
        """Write until nothing is pending. What can't be stored fails alone."""
        try:
            while self._pending:
                await asyncio.sleep(GATHER_S)
                batch, self._pending = self._pending[:_MOST_AT_ONCE], self._pending[_MOST_AT_ONCE:]
                if not await self._written(batch) and len(batch) > 1:
                    for each in batch:
                        await self._written([each])
        finally:
            self._writing = None

    async def _written(self, batch: list[_Pending]) -> bool:
        """Write them together and tell who waits; False where none can be, for one among them."""
        failure: Exception | None = None
        try:
            await self._database.execute(
                _RECORD, *_columns([event for events, _ in batch for event in events])
            )
        except StoreUnavailable as error:
            failure = error
        except (asyncpg.PostgresError, TriplaneError) as error:
            if len(batch) > 1:
                return False
            failure = error
        for _, stored in batch:
            if stored.done():
                continue
            if failure:
                stored.set_exception(failure)
            else:
                stored.set_result(None)
        return True


def call_columns(events: Sequence[UsageEvent]) -> list[object]:
    """What differs between the engine calls of one completion, as arrays: id, attempt, route, replica, the
    three counts of tokens, cost."""
    calls = [event.call for event in events]
    return [
        [event.id for event in events],
        [call.attempt for call in calls],
        [call.route for call in calls],
        [call.replica for call in calls],
        [call.usage.prompt_tokens for call in calls],
        [call.usage.completion_tokens for call in calls],
        [call.usage.cached_tokens for call in calls],
        [call.cost for call in calls],
    ]


def _columns(events: Sequence[UsageEvent]) -> list[object]:
    return [
        [event.tenant_id for event in events],
        [event.user_id for event in events],
        [event.api_key_id for event in events],
        [event.conversation_id for event in events],
        [event.turn_id for event in events],
        [event.request_id for event in events],
        [event.model for event in events],
        *call_columns(events),
    ]


_RECORD = """
INSERT INTO usage_events (tenant_id, user_id, api_key_id, conversation_id, turn_id, request_id, model,
    id, attempt, route, replica, prompt_tokens, completion_tokens, cached_tokens, cost)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::integer[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::bigint[])
ON CONFLICT (tenant_id, id) DO NOTHING
RETURNING id"""

_RECORD_REST = """
INSERT INTO usage_events (tenant_id, id, user_id, api_key_id, conversation_id, turn_id, request_id, model,
    attempt, route, replica, prompt_tokens, completion_tokens, cached_tokens, cost)
SELECT known.tenant_id, known.id || '_rest', user_id, api_key_id, conversation_id, turn_id, request_id, model,
    known.attempt, known.route, known.replica, greatest(0, call.prompt - prompt_tokens),
    greatest(0, call.completion - completion_tokens), greatest(0, call.cached - cached_tokens),
    greatest(0, call.cost - known.cost)
FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[])
    AS call (tenant_id, id, attempt, route, replica, prompt, completion, cached, cost)
JOIN usage_events known ON known.tenant_id = call.tenant_id AND known.id = call.id
WHERE call.prompt > prompt_tokens OR call.completion > completion_tokens OR call.cached > cached_tokens
ON CONFLICT (tenant_id, id) DO NOTHING"""
