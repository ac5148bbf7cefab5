"""One line of the bill for each completion, written even if the database is away for a while."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from triplane.domain.completion import CompletionRequest
from triplane.domain.conversation import Principal, UsageEvent
from triplane.domain.errors import StoreUnavailable
from triplane.domain.ids import new_id
from triplane.orchestration.ports import Completion, UsageStore

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


async def record_usage(event: UsageEvent, usage: UsageStore) -> None:
    await until_stored(lambda: usage.record(event))


def usage_event(
    who: Principal,
    request: CompletionRequest,
    completion: Completion,
    *,
    conversation_id: str | None = None,
    turn_id: str | None = None,
) -> UsageEvent:
    """What a completion has cost so far, as the engine counted it."""
    return UsageEvent(
        id=new_id("usage"),
        tenant_id=who.tenant_id,
        user_id=who.user_id,
        api_key_id=who.api_key_id,
        request_id=request.request_id,
        model=request.model,
        engine=completion.engine,
        usage=completion.usage,
        conversation_id=conversation_id,
        turn_id=turn_id,
    )
