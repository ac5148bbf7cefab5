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


class PostgresUsage:
    """`UsageStore` on PostgreSQL. Events of one moment are one statement; each caller waits until its own
    is stored. `aclose` when nobody records any more."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: list[tuple[UsageEvent, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, event: UsageEvent) -> None:
        stored = asyncio.get_running_loop().create_future()
        self._pending.append((event, stored))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await stored

    async def record_attempt(self, event: UsageEvent) -> None:
        if await self._database.fetchval(_RECORD, *_columns([event])):
            return
        # Of its own, because a statement doesn't see the row that it has just run into.
        usage = event.usage
        await self._database.execute(
            _RECORD_REST,
            event.tenant_id,
            event.id,
            event.engine,
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
        )

    async def aclose(self) -> None:
        """Wait for what is being written."""
        if self._writing:
            await asyncio.wait((self._writing,))

    async def _write(self) -> None:
        """Write until nothing is pending. An event that can't be stored fails alone."""
        try:
            while self._pending:
                await asyncio.sleep(GATHER_S)
                batch, self._pending = self._pending[:_MOST_AT_ONCE], self._pending[_MOST_AT_ONCE:]
                if not await self._written(batch) and len(batch) > 1:
                    for each in batch:
                        await self._written([each])
        finally:
            self._writing = None

    async def _written(self, batch: list[tuple[UsageEvent, asyncio.Future[None]]]) -> bool:
        """Write them together and tell who waits; False where none can be, for one among them."""
        failure: Exception | None = None
        try:
            await self._database.execute(_RECORD, *_columns([event for event, _ in batch]))
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


def _columns(events: Sequence[UsageEvent]) -> list[list[object]]:
    """The columns of these events, each as an array."""
    return [list(column) for column in zip(*map(_values, events), strict=True)]


def _values(event: UsageEvent) -> list[object]:
    return [
        event.tenant_id,
        event.id,
        event.user_id,
        event.api_key_id,
        event.conversation_id,
        event.turn_id,
        event.request_id,
        event.model,
        event.engine,
        event.usage.prompt_tokens,
        event.usage.completion_tokens,
        event.usage.cached_tokens,
    ]


_RECORD = """
INSERT INTO usage_events (tenant_id, id, user_id, api_key_id, conversation_id, turn_id, request_id, model,
    engine, prompt_tokens, completion_tokens, cached_tokens)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::bigint[], $11::bigint[],
    $12::bigint[])
ON CONFLICT (tenant_id, id) DO NOTHING
RETURNING true"""

_RECORD_REST = """
INSERT INTO usage_events (tenant_id, id, user_id, api_key_id, conversation_id, turn_id, request_id, model,
    engine, prompt_tokens, completion_tokens, cached_tokens)
SELECT tenant_id, id || '_rest', user_id, api_key_id, conversation_id, turn_id, request_id, model, $3,
    greatest(0, $4 - prompt_tokens), greatest(0, $5 - completion_tokens), greatest(0, $6 - cached_tokens)
FROM usage_events
WHERE tenant_id = $1 AND id = $2 AND ($4 > prompt_tokens OR $5 > completion_tokens OR $6 > cached_tokens)
ON CONFLICT (tenant_id, id) DO NOTHING"""
