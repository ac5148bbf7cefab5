"""Requests to one origin over connections that are kept."""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping

from triplane.inference.http1.connection import Connection
from triplane.inference.http1.errors import ConnectFailed, Disconnected
from triplane.inference.http1.origin import Origin
from triplane.inference.http1.response import Response

CONNECT_S = 5.0
KEEP_ALIVE_S = 4.0
"""An idle connection is closed after this long: less than the 5 s after which some servers close theirs."""
MAX_CONNECTIONS = 4096


class Client:
    """Give it to one event loop, and `close` it there. `headers` go with every request.

    At `max_connections` a request waits up to `connect_s` for one to come free.
    """

    def __init__(
        self,
        origin: Origin,
        headers: Mapping[str, str],
        *,
        connect_s: float = CONNECT_S,
        keep_alive_s: float = KEEP_ALIVE_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._origin = origin
        self._fixed = encode_headers({"host": origin.host_header, "accept-encoding": "identity", **headers})
        self._connect_s = connect_s
        self._keep_alive_s = keep_alive_s
        self._max_connections = max_connections
        self._loop = asyncio.get_running_loop()
        self._tls = _tls_context() if origin.is_tls else None
        self._open: set[Connection] = set()
        self._connecting = 0
        self._idle: deque[Connection] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        keep_alive: bool = True,
    ) -> Response:
        """The response, once its head is here; `path` has the query too.

        Raises ConnectFailed, Disconnected, InvalidResponse. A kept connection may close just as we write to
        it; if not one byte came back, nothing was served, and a new connection is tried, once.
        """
        request = self._encode(method, path, headers, body)
        connection = self._take_idle()
        if connection is not None:
            try:
                return await connection.exchange(request, keep_alive=keep_alive)
            except Disconnected:
                if connection.has_answered or self._is_closed:
                    raise
        connection = await self._connect()
        return await connection.exchange(request, keep_alive=keep_alive)

    async def close(self) -> None:
        """Close every connection; whoever reads from one gets Disconnected."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.abort()

    def idle(self, connection: Connection) -> None:
        if self._is_closed:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        self._wake_one()
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keep_alive_s, self._close_old)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._wake_one()

    def _encode(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        start = f"{method} {path} HTTP/1.1\r\n".encode("ascii")
        own = encode_headers(headers) if headers else b""
        if body is None:
            return b"".join((start, self._fixed, own, b"\r\n"))
        return b"".join((start, self._fixed, own, b"content-length: %d\r\n\r\n" % len(body), body))

    def _take_idle(self) -> Connection | None:
        """The one used last: the others may grow old and close."""
        oldest = self._loop.time() - self._keep_alive_s
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_open:
                continue
            if connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_s):
                idle = await self._wait_for_room()
                return idle or await self._new_connection()
        except TimeoutError as error:
            raise ConnectFailed("no connection in time") from error
        except (OSError, ssl.SSLError) as error:
            raise ConnectFailed("the connection was refused") from error

    async def _new_connection(self) -> Connection:
        self._connecting += 1
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self, self._loop), self._origin.host, self._origin.port, ssl=self._tls
            )
        finally:
            self._connecting -= 1
        if self._is_closed:
            connection.abort()
            raise ConnectFailed("the client is closed")
        if connection.is_open:
            self._open.add(connection)
        return connection

    async def _wait_for_room(self) -> Connection | None:
        while len(self._open) + self._connecting >= self._max_connections:
            turn = self._loop.create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake_one()
                raise
            if (idle := self._take_idle()) is not None:
                return idle
        return None

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _close_old(self) -> None:
        """Close what has been idle too long; come back while any is idle."""
        self._sweep = None
        oldest = self._loop.time() - self._keep_alive_s
        while self._idle and (not self._idle[0].is_open or self._idle[0].idle_since < oldest):
            self._idle.popleft().abort()
        if self._idle:
            self._sweep = self._loop.call_later(self._keep_alive_s, self._close_old)


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Raises ValueError for a header that would be more than one line."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers) or "\0" in text:
        raise ValueError("a header has a line break in it")
    return text.encode("latin-1")


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
