"""Server-sent events over ASGI: heartbeats, a client that hangs up or stops reading, a process that leaves.

The format is that of html.spec.whatwg.org/multipage/server-sent-events.html.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from time import monotonic
from typing import Any, Protocol

from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from triplane.orchestration.bff.scope import while_allowed

HEARTBEAT_S = 15.0
STALL_S = 60.0
"""A client that has taken nothing for so long is dropped; the replay log has the rest for it."""

PING = b": ping\n"
"""No empty line behind it: once a stream has had an `id:`, OpenAI's client for Python takes every empty line
for the end of an event."""
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Closes(Protocol):
    async def aclose(self) -> None: ...


class EventStream(Response[None]):
    """A response that sends frames (whole events, as bytes) as they come.

    `closing` is closed at the end, also when the client hangs up: that ends the work behind the frames.
    `leaving` is for a stream that its client opens again where it broke off: the stream ends at once, behind
    a whole frame, when this future of the process is done.
    """

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        closing: Closes,
        leaving: "asyncio.Future[None] | None" = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        super().__init__(None)
        self._frames = frames
        self._closing = closing
        self._leaving = leaving
        self._heartbeat_s = heartbeat_s

    def to_asgi_response(self, request: Request[Any, Any, Any], **_: Any) -> ASGIResponse:  # type: ignore[override]
        return _Sender(self._frames, self._closing, self._leaving, self._heartbeat_s)


class _Sender(ASGIResponse):
    def __init__(
        self,
        frames: AsyncIterator[bytes],
        closing: Closes,
        leaving: "asyncio.Future[None] | None",
        heartbeat_s: float,
    ) -> None:
        super().__init__()
        self._frames = frames
        self._closing = closing
        self._leaving = leaving
        self._heartbeat_s = heartbeat_s
        self._ended: asyncio.Future[None] | None = None
        self._sending_since: float | None = None
        self._sent_at = monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._closing):
            with while_allowed(scope) as self._ended:
                await self._answer(receive, send)

    async def _answer(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_until_gone(receive))
        try:
            await self._attend(pump, gone, send)
        finally:
            for task in (pump, gone):
                task.cancel()
            await asyncio.wait((pump, gone))
        if self._is_leaving and pump.cancelled() and not self._sending_since:
            await self._send(send, b"", more=False)
        if not pump.cancelled() and (failure := pump.exception()):
            raise failure

    @property
    def _is_leaving(self) -> bool:
        """The process, or its user's access, ends: the stream does so between two frames."""
        return any(end is not None and end.done() for end in (self._leaving, self._ended))

    async def _attend(self, pump: asyncio.Task[None], gone: asyncio.Task[None], send: Send) -> None:
        """Wait for the end of the frames, the client or the process; a heartbeat in every silence."""
        ends = [each for each in (pump, gone, self._leaving, self._ended) if each]
        while not (pump.done() or gone.done() or self._is_leaving):
            quiet_for = monotonic() - self._sent_at
            await asyncio.wait(
                ends,
                timeout=max(0.01, self._heartbeat_s - quiet_for),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._sending_since and monotonic() - self._sending_since > STALL_S:
                return
            silent = monotonic() - self._sent_at >= self._heartbeat_s
            if silent and not self._sending_since and not pump.done():
                await self._send(send, PING, more=True)

    async def _pump(self, send: Send) -> None:
        async for frame in self._frames:
            await self._send(send, frame, more=True)
        await self._send(send, b"", more=False)

    async def _send(self, send: Callable[[Any], Awaitable[None]], body: bytes, more: bool) -> None:
        self._sending_since = monotonic()
        await send({"type": "http.response.body", "body": body, "more_body": more})
        self._sending_since = None
        self._sent_at = monotonic()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
