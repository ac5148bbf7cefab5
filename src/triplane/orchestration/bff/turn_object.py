"""A turn as the API shows it."""

from typing import Literal

import msgspec

from triplane.domain.conversation import TurnDetails, TurnRecord
from triplane.domain.events import FinishReason, TurnStatus
from triplane.domain.money import EngineCall, dollars
from triplane.wire.chat_completions import WireUsage, present_usage
from triplane.wire.errors import ErrorDetail


class WireTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn as it stands."""

    id: str
    conversation_id: str
    message_id: str
    model: str
    status: TurnStatus
    created_at: int
    finish_reason: FinishReason | None
    usage: WireUsage
    error: ErrorDetail | None
    object: str = "turn"


class WireCall(msgspec.Struct, frozen=True, kw_only=True):
    """One engine call of a turn. `cost` in US dollars."""

    route: str
    engine: str
    attempt: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: float
    outcome: Literal["answered", "abandoned"]


class WireTurnDetails(WireTurn, frozen=True, kw_only=True):
    """A turn with what it took. `cost` in US dollars; `duration_ms` null while it runs, and the time to the
    first token where none was shown or it isn't known."""

    cost: float
    time_to_first_token_ms: int | None
    duration_ms: int | None
    calls: list[WireCall]


def present_details(details: TurnDetails) -> WireTurnDetails:
    """A call has answered if it was its completion's last and the turn has text of it."""
    record, newest = details.record, details.calls[-1] if details.calls else None
    duration = record.ended_at - record.created_at if record.ended_at else None
    return WireTurnDetails(
        **{name: getattr(present_turn(record), name) for name in WireTurn.__struct_fields__},
        cost=dollars(details.cost),
        time_to_first_token_ms=record.time_to_first_token_ms,
        duration_ms=round(duration.total_seconds() * 1000) if duration else None,
        calls=[
            _present_call(
                each.call,
                has_answered=record.status != "failed"
                and each.is_last
                and (each is newest or each.call.usage.completion_tokens > 0),
            )
            for each in details.calls
        ],
    )


def _present_call(call: EngineCall, *, has_answered: bool) -> WireCall:
    return WireCall(
        route=call.route,
        engine=call.replica,
        attempt=call.attempt,
        prompt_tokens=call.usage.prompt_tokens,
        cached_tokens=call.usage.cached_tokens,
        completion_tokens=call.usage.completion_tokens,
        cost=dollars(call.cost),
        outcome="answered" if has_answered else "abandoned",
    )


def present_turn(record: TurnRecord) -> WireTurn:
    error = None
    if record.error_code:
        error = ErrorDetail(message=record.error_message or "", type="api_error", code=record.error_code)
    return WireTurn(
        id=record.id,
        conversation_id=record.conversation_id,
        message_id=record.message_id,
        model=record.model,
        status=record.status,
        created_at=int(record.created_at.timestamp()),
        finish_reason=record.finish_reason,
        usage=present_usage(record.usage),
        error=error,
    )
