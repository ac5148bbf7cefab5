"""Turns: following one from any position of its replay log, and stopping it."""

from contextlib import suppress
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter

from triplane.domain.conversation import TurnRecord
from triplane.domain.errors import NotFound
from triplane.domain.events import FinishReason, TurnStatus
from triplane.domain.ids import is_id
from triplane.orchestration.bff.answers import identity_of_turn, stream_turn
from triplane.orchestration.bff.errors import ErrorDetail, documented
from triplane.orchestration.bff.event_stream import EventStream
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.bff.wire import WireUsage, present_usage
from triplane.orchestration.following import FollowDeps, follow_turn
from triplane.orchestration.turn import TurnDeps, stop_turn


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


def turn_handlers(turn: TurnDeps, follow: FollowDeps) -> list[HTTPRouteHandler]:
    @get(
        "/v1/turns/{turn_id:str}",
        operation_id="retrieveTurn",
        summary="One turn as it stands",
        tags=["turns"],
        responses=documented(401, 404, 503),
    )
    async def retrieve_turn(request: StrictRequest, turn_id: FromPath[str]) -> WireTurn:
        return _present(await turn.turns.get(request.principal, _require_id(turn_id)))

    @get(
        "/v1/turns/{turn_id:str}/events",
        operation_id="followTurn",
        summary="The events of a turn behind a position, as a stream",
        tags=["turns"],
        responses=documented(400, 401, 404, 503),
    )
    async def follow_events(
        request: StrictRequest,
        turn_id: FromPath[str],
        after: Annotated[int | None, QueryParameter(ge=0, le=2**53)] = None,
        include_usage: FromQuery[bool] = False,
    ) -> Response[None]:
        who = request.principal
        record = await follow.turns.get(who, _require_id(turn_id))
        identity = identity_of_turn(
            record.id, record.conversation_id, record.message_id, record.model, record.created_at
        )
        position = after if after is not None else _last_event_id(request)
        entries = follow_turn(who, record.id, position, follow)
        return EventStream(stream_turn(entries, identity, include_usage), closing=entries)

    @post(
        "/v1/turns/{turn_id:str}/stop",
        operation_id="stopTurn",
        summary="Stop a turn; what was shown is kept",
        tags=["turns"],
        status_code=202,
        responses=documented(401, 403, 404, 503),
    )
    async def stop(request: StrictRequest, turn_id: FromPath[str]) -> WireTurn:
        await stop_turn(request.principal, _require_id(turn_id), turn)
        return _present(await turn.turns.get(request.principal, turn_id))

    return [retrieve_turn, follow_events, stop]


def _require_id(turn_id: str) -> str:
    if not is_id("turn", turn_id):
        raise NotFound("There is no such turn.", param="turn_id")
    return turn_id


def _last_event_id(request: StrictRequest) -> int:
    """The position that a reconnecting browser sends; from the start if it is none."""
    with suppress(ValueError):
        return max(0, int(request.headers.get("last-event-id", "0")))
    return 0


def _present(record: TurnRecord) -> WireTurn:
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
