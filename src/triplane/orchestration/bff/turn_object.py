"""A turn as the API shows it."""

import msgspec

from triplane.domain.conversation import TurnRecord
from triplane.domain.events import FinishReason, TurnStatus
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
