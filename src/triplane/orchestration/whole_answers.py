"""An answer that a job wants whole, such as a title: asked for, read to its end, billed."""

from contextlib import aclosing

from triplane.domain.completion import CompletionRequest
from triplane.domain.conversation import Principal
from triplane.domain.events import EngineEvent
from triplane.domain.money import CallsMade
from triplane.orchestration.background import to_the_end
from triplane.orchestration.metering import record_usage, usage_events
from triplane.orchestration.ports import Gateway, UsageStore


async def billed_answer(
    who: Principal, request: CompletionRequest, conversation_id: str, gateway: Gateway, usage: UsageStore
) -> list[EngineEvent]:
    """The whole answer; what it has cost is recorded, also if it fails or is cancelled. Raises as
    `Gateway.complete` does."""
    made = CallsMade()
    try:
        completion = await gateway.complete(request, made)
        try:
            async with aclosing(completion):
                return [event async for event in completion]
        finally:
            made.calls = completion.calls
    finally:
        billed = usage_events(who, request, made.calls, conversation_id=conversation_id)
        await to_the_end(record_usage(billed, usage))
