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
def cancelled_by_signals() -> Iterator[None]:
    """A signal to end cancels this task. Behind the block the process is deaf to it until `serve_http`."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
            # uvicorn ends on these by itself, and then raises them again: what comes after it must run.
            signal.signal(number, lambda *_: None)


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
