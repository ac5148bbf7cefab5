"""Turns: those that run, following one from any position of its replay log, and stopping it."""

import asyncio
from contextlib import suppress
from typing import Annotated, Literal

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter

from triplane.domain.errors import InvalidRequest, NotFound
from triplane.domain.ids import is_id
from triplane.orchestration.bff.answers import identity_of_turn, stream_turn
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.event_stream import EventStream
from triplane.orchestration.bff.pages import Page, page_of
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.bff.turn_object import WireTurn, WireTurnDetails, present_details, present_turn
from triplane.orchestration.following import FollowDeps, follow_turn
from triplane.orchestration.running import RunningTurns
from triplane.orchestration.turn import TurnDeps, stop_turn


def turn_handlers(
    turn: TurnDeps, follow: FollowDeps, running: RunningTurns, leaving: "asyncio.Future[None]"
) -> list[HTTPRouteHandler]:
    """`leaving` is done once the process is told to stop: who follows a turn then does so elsewhere."""
    return [_list_handler(running), _details_handler(running), *_handlers_of_one(turn, follow, leaving)]


def _list_handler(running: RunningTurns) -> HTTPRouteHandler:
    @get(
        "/v1/turns",
        operation_id="listRunningTurns",
        summary="Your turns that run, newest first",
        tags=["turns"],
        responses=documented(400, 401, 404, 503),
    )
    async def list_turns(
        request: StrictRequest,
        only: Annotated[Literal["running"], QueryParameter(name="state")],
        conversation_id: FromQuery[str | None] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        after: FromQuery[str | None] = None,
    ) -> Page[WireTurn]:
        if conversation_id is not None and not is_id("conv", conversation_id):
            raise InvalidRequest("This is not the id of a conversation.", param="conversation_id")
        if after is not None and not is_id("turn", after):
            raise InvalidRequest("after: this is not the id of a turn.", param="after")
        found, has_more = await running.running(request.principal, conversation_id, after, limit)
        return page_of([present_turn(record) for record in found], has_more=has_more)

    return list_turns


def _details_handler(running: RunningTurns) -> HTTPRouteHandler:
    @get(
        "/v1/turns/{turn_id:str}",
        operation_id="retrieveTurn",
        summary="One turn as it stands, with what it took",
        tags=["turns"],
        responses=documented(401, 404, 503),
    )
    async def retrieve_turn(request: StrictRequest, turn_id: FromPath[str]) -> WireTurnDetails:
        return present_details(await running.details(request.principal, _require_id(turn_id)))

    return retrieve_turn


def _handlers_of_one(
    turn: TurnDeps, follow: FollowDeps, leaving: "asyncio.Future[None]"
) -> list[HTTPRouteHandler]:
    @get(
        "/v1/turns/{turn_id:str}/events",
        operation_id="followTurn",
        summary="The events of a turn behind a position, as a stream",
        tags=["turns"],
        media_type="text/event-stream",
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
        return EventStream(stream_turn(entries, identity, include_usage), closing=entries, leaving=leaving)

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
        return present_turn(await turn.turns.get(request.principal, turn_id))

    return [follow_events, stop]


def _require_id(turn_id: str) -> str:
    if not is_id("turn", turn_id):
        raise NotFound("There is no such turn.", param="turn_id")
    return turn_id


def _last_event_id(request: StrictRequest) -> int:
    """The position that a reconnecting browser sends; from the start if it is none."""
    with suppress(ValueError):
        return max(0, int(request.headers.get("last-event-id", "0")))
    return 0
