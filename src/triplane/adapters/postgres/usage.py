"""The bill: usage events are appended, never changed."""

from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import UsageEvent


class PostgresUsage:
    """`UsageStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, event: UsageEvent) -> None:
        await self._database.execute(_RECORD, *_arguments(event))

    async def record_attempt(self, event: UsageEvent) -> None:
        if await self._database.fetchval(_RECORD, *_arguments(event)):
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


def _arguments(event: UsageEvent) -> list[object]:
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
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
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
