"""`GET /v1/events`: what changes in a user's conversations, for each of their open devices."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import monotonic

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from triplane.domain.announcements import Announced
from triplane.orchestration.announcing import Announcements, Resumed
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.event_stream import EventStream
from triplane.orchestration.bff.request import StrictRequest

LIFETIME_S = 600.0
"""A stream ends after so long; the device connects again, and whether it may is asked anew."""

_RESET = b'{"type":"reset"}'
_encoder = msgspec.json.Encoder()


def live_update_handlers(
    announcements: Announcements, leaving: "asyncio.Future[None]"
) -> list[HTTPRouteHandler]:
    @get(
        "/v1/events",
        operation_id="followConversations",
        summary="What changes in your conversations, as a stream",
        tags=["conversations"],
        media_type="text/event-stream",
        responses=documented(401, 503),
    )
    async def follow_conversations(request: StrictRequest) -> Response[None]:
        who = request.principal
        resumed = await announcements.resume(who, request.headers.get("last-event-id"))
        announced = announcements.follow(who, resumed.place)
        return EventStream(_frames(resumed, announced), closing=announced, leaving=leaving)

    return [follow_conversations]


async def _frames(
    resumed: Resumed, announced: AsyncGenerator[Announced | None, None]
) -> AsyncGenerator[bytes, None]:
    """First where the stream begins, so that a device which is told nothing can resume from there too."""
    begun = monotonic()
    yield _frame(resumed.place, _RESET) if resumed.has_missed else f"id: {resumed.place}\n\n".encode()
    async with aclosing(announced):
        async for each in announced:
            if each:
                yield _frame(each.place, _encoder.encode(each.announcement))
            if monotonic() - begun > LIFETIME_S:
                return


def _frame(place: str, data: bytes) -> bytes:
    return b"id: " + place.encode() + b"\ndata: " + data + b"\n\n"
