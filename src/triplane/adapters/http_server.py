"""Serving the application on a socket, and the two ways to be told to stop: while it starts, and later."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

ASGIApplication = Callable[[Any, Any, Any], Awaitable[None]]


@contextmanager
def cancelled_by_signals(leaving: "asyncio.Future[None]") -> Iterator[None]:
    """A signal to end cancels this task, until `leaving` is done; `serve_http` has an end of its own.

    uvicorn catches these signals while it serves, and then raises them again: what comes after must run.
    The handlers are Python's and not the loop's, which would forget a signal that comes while it is blocked.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task

    def tell(*_: object) -> None:
        if not leaving.done():
            loop.call_soon_threadsafe(task.cancel)

    before = {number: signal.signal(number, tell) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def serve_http(
    app: ASGIApplication, listener: socket.socket, leaving: "asyncio.Future[None]", grace_s: float
) -> None:
    """Serve until a signal to end; `leaving` is done then, and what runs has `grace_s` seconds."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=int(grace_s),
    )
    await _Server(config, leaving).serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which has `leaving` done before it waits for the requests that run."""

    def __init__(self, config: uvicorn.Config, leaving: "asyncio.Future[None]") -> None:
        super().__init__(config)
        self._leaving = leaving

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._leaving.set_result(None)
        await super().shutdown(sockets)
