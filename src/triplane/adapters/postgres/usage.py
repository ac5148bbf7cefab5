"""The bill: usage events are appended, never changed."""

from collections.abc import Sequence

from triplane.adapters.postgres.batches import Batches
from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import UsageEvent

GATHER_S = 0.02
"""How long an event waits for others to be written with: what SIGKILL can take of the bill of a stateless
answer that has ended. A turn's bill is written with its end."""


REST = "_rest"
"""Ends the id of what a call, billed once already, turned out to have cost besides."""

IS_REQUEST = f"e.attempt = 1 AND e.id NOT LIKE '%\\{REST}'"
"""Of a row `e`: the one for which a completion counts as a request."""


class PostgresUsage:
    """`UsageStore` on PostgreSQL. Events of one moment are one statement. `aclose` when nobody records."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batches = Batches(self._record_all, GATHER_S)

    async def record(self, events: Sequence[UsageEvent]) -> None:
        if events:
            await self._batches.add(events)

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
        await self._batches.aclose()

    async def _record_all(self, completions: Sequence[Sequence[UsageEvent]]) -> list[None]:
        events = [event for each in completions for event in each]
        await self._database.execute(_RECORD, *_columns(events))
        return [None] * len(completions)


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

_RECORD_REST = f"""
INSERT INTO usage_events (tenant_id, id, user_id, api_key_id, conversation_id, turn_id, request_id, model,
    attempt, route, replica, prompt_tokens, completion_tokens, cached_tokens, cost)
SELECT known.tenant_id, known.id || '{REST}', user_id, api_key_id, conversation_id, turn_id, request_id,
    model, known.attempt, known.route, known.replica, greatest(0, call.prompt - prompt_tokens),
    greatest(0, call.completion - completion_tokens), greatest(0, call.cached - cached_tokens),
    greatest(0, call.cost - known.cost)
FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[])
    AS call (tenant_id, id, attempt, route, replica, prompt, completion, cached, cost)
JOIN usage_events known ON known.tenant_id = call.tenant_id AND known.id = call.id
WHERE call.prompt > prompt_tokens OR call.completion > completion_tokens OR call.cached > cached_tokens
ON CONFLICT (tenant_id, id) DO NOTHING"""
