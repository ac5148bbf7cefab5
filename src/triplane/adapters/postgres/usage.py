"""The bill: usage events are appended, never changed."""

from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import UsageEvent


class PostgresUsage:
    """`UsageStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, event: UsageEvent) -> None:
        await self._database.execute(
            _RECORD,
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
        )


_RECORD = """
INSERT INTO usage_events (tenant_id, id, user_id, api_key_id, conversation_id, turn_id, request_id, model,
    engine, prompt_tokens, completion_tokens, cached_tokens)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (tenant_id, id) DO NOTHING"""
