"""Answering a request with a turn: as a stream or whole, from a position of its log on."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Protocol, Self

import msgspec
from litestar import Response

from triplane.domain.conversation import TurnRecord
from triplane.domain.errors import InvalidRequest, error_from_code
from triplane.domain.events import LogEntry, TurnEnded
from triplane.orchestration.bff.answers import collect_turn, stream_turn
from triplane.orchestration.bff.connection import unless_gone
from triplane.orchestration.bff.event_stream import EventStream
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.bff.turn_object import present_turn
from triplane.orchestration.following import FollowDeps, follow_turn
from triplane.wire.answers import Identity
from triplane.wire.chat_completions import StreamOptions

STATUS_WAIT_S = 5.0
"""How long a stream waits for its first event before it commits to status 200 and heartbeats.

Until then a failure has a status of its own; after it, an error event is the only way to tell.
"""


class AsksForDelivery(Protocol):
    """A body that says how its answer is to be delivered."""

    @property
    def stream(self) -> bool | None: ...

    @property
    def background(self) -> bool | None: ...

    @property
    def stream_options(self) -> StreamOptions | None: ...


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """How the answer goes out; with `background` only that the turn has begun.

    `after`: where in the turn's log the answer begins, for one that is continued.
    """

    stream: bool
    include_usage: bool
    background: bool = False
    after: int = 0

    @classmethod
    def of(cls, body: AsksForDelivery, after: int = 0) -> Self:
        usage = body.stream_options is not None and body.stream_options.include_usage
        return cls(
            stream=bool(body.stream), include_usage=usage, background=bool(body.background), after=after
        )


async def answer_with_turn(
    request: StrictRequest,
    turn: Identity,
    delivery: Delivery,
    follow: FollowDeps,
    known: TurnRecord | None = None,
) -> Response[Any]:
    """The turn's answer. Raises what the turn failed with, while a status can still be sent."""
    assert turn.turn_id is not msgspec.UNSET
    if delivery.background:
        record = await follow.turns.get(request.principal, turn.turn_id)
        return Response(present_turn(record), status_code=202)
    entries = _Followed(follow_turn(request.principal, turn.turn_id, delivery.after, follow, known))
    if delivery.stream:
        await entries.begin(STATUS_WAIT_S)
        frames = stream_turn(aiter(entries), turn, delivery.include_usage, is_continued=delivery.after > 0)
        return EventStream(frames, closing=entries)
    async with aclosing(entries):
        return Response(await unless_gone(request, collect_turn(aiter(entries), turn)))


class _Followed:
    """A turn's entries, of which the first can be waited for before the response begins."""

    def __init__(self, entries: AsyncGenerator[LogEntry, None]) -> None:
        self._entries = entries
        self._first = asyncio.ensure_future(anext(entries))

    async def begin(self, within_s: float) -> None:
        """Wait for the first entry. Raises what the turn failed with, if that is all there is."""
        await asyncio.wait((self._first,), timeout=within_s)
        if self._first.done():
            event = self._first.result().event
            if isinstance(event, TurnEnded) and event.error:
                await self.aclose()
                raise error_from_code(event.error.code, event.error.message)

    async def __aiter__(self) -> AsyncIterator[LogEntry]:
        yield await self._first
        async for entry in self._entries:
            yield entry

    async def aclose(self) -> None:
        self._first.cancel()
        await asyncio.wait((self._first,))
        await self._entries.aclose()


def require_deliverable(body: AsksForDelivery) -> None:
    """Raises InvalidRequest where what is asked of the delivery doesn't go together."""
    if body.stream_options and not body.stream:
        raise InvalidRequest("stream_options needs stream: true.", param="stream_options")
    if body.background and body.stream:
        raise InvalidRequest(
            "background answers with the turn alone: follow it at /v1/turns/{id}/events.", param="background"
        )


def idempotency_key(request: StrictRequest, request_id: str | None) -> str | None:
    """The name that makes a retry the same turn. Raises InvalidRequest if it is too long."""
    headers = request.headers
    key = request_id or headers.get("idempotency-key") or headers.get("x-request-id")
    if key and len(key) > 200:
        raise InvalidRequest("The idempotency key is longer than 200 characters.", param="request_id")
    return key
