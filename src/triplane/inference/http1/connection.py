"""One connection to a server: one exchange at a time, strictly parsed."""

import asyncio
import socket
from typing import Any, Protocol

from httptools import HttpParserError, HttpResponseParser

from triplane.inference.http1.errors import Disconnected, Http1Error, InvalidResponse
from triplane.inference.http1.response import Response

MAX_BARREN_BYTES = 64 * 1024
"""How much may come without a byte of a body: it bounds the head, trailers, interim responses, chunk
extensions."""
MAX_HEADERS = 256
_WITHOUT_BODY = (204, 304)


class Pool(Protocol):
    """Who owns the connection."""

    def idle(self, connection: "Connection") -> None:
        """It can serve the next exchange."""
        ...

    def lost(self, connection: "Connection") -> None:
        """It has ended, for good; called once."""
        ...


class Connection(asyncio.Protocol):
    """Made by the event loop, owned by `pool`. llhttp refuses smuggling (both lengths, bare line ends…)."""

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._head: asyncio.Future[Response] | None = None
        self._response: Response | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._barren = 0
        self._may_serve_again = True
        self._lasts_to_the_end = False
        self.has_answered = False
        """A byte of the present exchange's response has come."""
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def exchange(self, request: bytes, *, keep_alive: bool) -> Response:
        """Send a request; its response once the head is here. Raises Disconnected, InvalidResponse."""
        if self._transport is None:
            raise Disconnected("the server had closed the connection")
        self._may_serve_again = keep_alive
        self.has_answered = False
        self._barren = 0
        head: asyncio.Future[Response] = self._loop.create_future()
        self._head = head
        self._transport.write(request)
        try:
            return await head
        except asyncio.CancelledError:
            if self._head is head:
                self.abort()
            elif head.done() and not head.cancelled() and head.exception() is None:
                head.result().abort()
            raise

    def abort(self) -> None:
        """Close at once, with nothing more sent or received."""
        if self._transport is not None:
            self._transport.abort()
            self._gone(Disconnected("the connection was closed"))

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._parser = HttpResponseParser(self)
        endpoint = transport.get_extra_info("socket")
        if endpoint is not None and endpoint.family in (socket.AF_INET, socket.AF_INET6):
            endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            return
        if self._response is None and self._head is None:
            self.abort()
            return
        self.has_answered = True
        self._barren += len(data)
        response = self._response
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._refuse(error)
            return
        if self._barren > MAX_BARREN_BYTES:
            self._break(InvalidResponse("the server's head, trailer or chunk extensions are too large"))
        elif response is not None:
            response.arrived()
        elif self._response is not None:
            self._response.arrived()
        if self._response is None and self._head is None and self._transport is not None:
            self._exchange_ended()

    def eof_received(self) -> None:
        response = self._response
        if response is not None and self._lasts_to_the_end:
            self._response = None
            response.complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone(Disconnected("the server closed the connection in the middle"))

    # The parser calls these.

    def on_message_begin(self) -> None:
        if self._head is None:
            raise InvalidResponse("something follows the response")
        self._headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) >= MAX_HEADERS:
            raise InvalidResponse("the response has too many headers")
        if self._response is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise InvalidResponse("the server wants to switch to another protocol")
            return
        headers = _joined(self._headers)
        coding = headers.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            raise InvalidResponse("the response has a transfer coding that isn't chunked")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise InvalidResponse("the response is compressed, which wasn't asked for")
        if not self._parser.get_http_version().startswith("1."):
            raise InvalidResponse("the response isn't HTTP/1")
        self._lasts_to_the_end = (
            coding is None and "content-length" not in headers and status not in _WITHOUT_BODY
        )
        self._response = response = Response(status, headers, self, self._loop)
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_result(response)

    def on_body(self, piece: bytes) -> None:
        self._barren = 0
        if self._response is not None:
            self._response.take_piece(piece)

    def on_message_complete(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            self._may_serve_again = self._may_serve_again and self._parser.should_keep_alive()
            response.complete()

    def _exchange_ended(self) -> None:
        if self._may_serve_again:
            self.resume()
            self._pool.idle(self)
        else:
            self.abort()

    def _refuse(self, error: HttpParserError) -> None:
        """Some of these bytes are no response: what came before them stays good."""
        reason = error.__context__
        self._break(
            reason if isinstance(reason, Http1Error) else InvalidResponse(f"the response isn't HTTP: {error}")
        )

    def _break(self, error: Http1Error) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._gone(error)

    def _gone(self, error: Http1Error) -> None:
        """Tell whoever waits, and the pool, once."""
        if self._transport is None:
            return
        self._transport = None
        self._parser = None
        head, self._head = self._head, None
        response, self._response = self._response, None
        if head is not None and not head.done():
            head.set_exception(error)
        if response is not None:
            response.fail(error)
        self._pool.lost(self)


def _joined(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined
