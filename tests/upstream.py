"""An engine's HTTP server on loopback, with answers of the test's choice, and what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Upstream:
    """`url` ends in `/v1`. A path without a handler answers 404."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self.url = ""
        self.requests: list[web.Request] = []
        self.hung_up = asyncio.Event()
        self._bodies: list[bytes] = []
        self._handlers = handlers

    def bodies(self, path: str) -> list[Any]:
        """The JSON bodies that came to this path."""
        asked = zip(self.requests, self._bodies, strict=True)
        return [json.loads(body) for request, body in asked if request.path == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self._bodies.append(await request.read())
        handler = self._handlers.get(request.path)
        if handler is None:
            return web.Response(status=404)
        try:
            return await handler(request)
        except (asyncio.CancelledError, ConnectionError):
            self.hung_up.set()
            raise


@asynccontextmanager
async def upstream(handlers: dict[str, Handler]) -> AsyncIterator[Upstream]:
    server = Upstream(handlers)
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


def streams(*pieces: bytes, then_hangs: bool = False, then_drops: bool = False) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if then_hangs:
            await asyncio.Event().wait()
        if then_drops and request.transport:
            request.transport.abort()
        return response

    return handle


def answers(status: int, body: bytes | str | dict[str, Any] = b"", **headers: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        return web.Response(
            status=status,
            body=raw,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    return handle


def in_turn(*handlers: Handler) -> Handler:
    """One after another; the last one stays."""
    left = list(handlers)

    async def handle(request: web.Request) -> web.StreamResponse:
        handler = left.pop(0) if len(left) > 1 else left[0]
        return await handler(request)

    return handle
