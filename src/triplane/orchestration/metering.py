"""One line of the bill for each completion."""

from triplane.domain.completion import CompletionRequest
from triplane.domain.conversation import Principal, UsageEvent
from triplane.domain.ids import new_id
from triplane.orchestration.ports import Completion


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
