"""Serving the application on a socket, and the two ways to be told to stop: while it starts, and later.

What one connection writes within one moment of the loop goes out in one system call: on a loopback or a LAN
that call is the dearest part of a frame.
"""

import asyncio
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
    allow_open_files()
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_Protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=int(grace_s),
    )
    await _Server(config, leaving).serve(sockets=[listener])


def allow_open_files() -> None:
    """Every stream is an open file, so take as many as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class GatheringTransport:
    """A transport that joins what is written within one moment of the loop, up to `_MOST_GATHERED` bytes."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= _MOST_GATHERED:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._gathered:
            gathered, self._gathered, self._size = self._gathered, [], 0
            self._transport.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))


_MOST_GATHERED = 64 * 1024


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]


class _Server(uvicorn.Server):
    """uvicorn's server, which has `leaving` done before it waits for the requests that run."""

    def __init__(self, config: uvicorn.Config, leaving: "asyncio.Future[None]") -> None:
        super().__init__(config)
        self._leaving = leaving

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._leaving.set_result(None)
        await super().shutdown(sockets)
