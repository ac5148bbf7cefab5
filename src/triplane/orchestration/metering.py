"""One line of the bill for each engine call, written even if the database is away for a while."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import structlog

from triplane.domain.completion import CompletionRequest
from triplane.domain.conversation import Principal, UsageEvent
from triplane.domain.embeddings import EmbeddingRequest
from triplane.domain.errors import StoreUnavailable
from triplane.domain.ids import new_id
from triplane.domain.money import EngineCall
from triplane.orchestration.ports import UsageStore

RETRIES_S = (0.1, 0.2, 0.5, 1.0, *(2.0,) * 29)
"""Waits between the tries to store an answer, or its bill, while the database is away, in seconds."""

_log = structlog.get_logger(__name__)

T = TypeVar("T")


async def until_stored(write: Callable[[], Awaitable[T]]) -> T:
    """Write, patiently: an answer that was shown, and what it cost, outlast a restart of the database.

    Raises StoreUnavailable after about a minute.
    """
    for wait_s in RETRIES_S:
        try:
            return await write()
        except StoreUnavailable:
            _log.warning("not stored yet", retry_in_s=wait_s)
            await asyncio.sleep(wait_s)
    return await write()


async def record_usage(events: Sequence[UsageEvent], usage: UsageStore) -> None:
    if events:
        await until_stored(lambda: usage.record(events))


def usage_events(
    who: Principal,
    request: CompletionRequest | EmbeddingRequest,
    calls: Iterable[EngineCall],
    *,
    conversation_id: str | None = None,
    turn_id: str | None = None,
    id_of: Callable[[EngineCall], str] = lambda _: new_id("usage"),
) -> list[UsageEvent]:
    """The bill of a completion's engine calls so far; a call that computed nothing is no line of it."""
    return [
        UsageEvent(
            id=id_of(call),
            tenant_id=who.tenant_id,
            user_id=who.user_id,
            api_key_id=who.api_key_id,
            request_id=request.request_id,
            model=request.model,
            call=call,
            conversation_id=conversation_id,
            turn_id=turn_id,
        )
        for call in calls
        if call.usage.total_tokens
    ]
