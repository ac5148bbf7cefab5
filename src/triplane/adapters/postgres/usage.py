"""The bill: usage events are appended, never changed."""

from collections.abc import Sequence

from triplane.adapters.postgres.batches import Batches
from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import UsageEvent

GATHER_S = 0.02
"""How long an event waits for others to be written with: what SIGKILL can take of the bill of a stateless
answer that has ended. A turn's bill is written with its end."""


class PostgresUsage:
    """`UsageStore` on PostgreSQL. Events of one moment are one statement. `aclose` when nobody records."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batches = Batches(self._record_all, GATHER_S)

    async def record(self, event: UsageEvent) -> None:
        await self._batches.add(event)

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
        await self._batches.aclose()

    async def _record_all(self, events: Sequence[UsageEvent]) -> list[None]:
        await self._database.execute(_RECORD, *_columns(events))
        return [None] * len(events)


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
