"""HTTP/1.1 on one connection: a bare protocol with httptools, because each token passes here.

One exchange at a time: a client that sends a second request before the first is answered is hung up on.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

import httptools
import msgspec

MOST_BODY_BYTES = 16 * 2**20
MOST_UNREAD_BYTES = 4 * 2**20
"""What a client may leave unread before it is hung up on."""

_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 429: b"Too Many Requests"}
_SERVER = b"server: triplane-simulated-engine\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\n" + _SERVER + b"content-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_LAST_CHUNK = b"0\r\n\r\n"


class Handler(Protocol):
    """Who answers. `opened` and `closed` tell which connections there are."""

    def handle(self, exchange: "Exchange") -> None: ...

    def opened(self, connection: "Connection") -> None: ...

    def closed(self, connection: "Connection") -> None: ...


class Exchange:
    """One request and the way to answer it. Header names are in lower case."""

    def __init__(
        self, connection: "Connection", method: str, path: str, headers: dict[str, str], body: bytes
    ):
        self._connection = connection
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.on_lost: Callable[[], None] | None = None
        """Called if the client goes away before the answer's end."""
        self.is_streaming = False

    def reply(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        head = b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b"Error")) + _SERVER
        for name, value in {"content-type": content_type, **(headers or {})}.items():
            head += f"{name}: {value}\r\n".encode()
        head += b"content-length: %d\r\n\r\n" % len(body)
        self._connection.write(head + body)
        self._connection.finish(self)

    def reply_json(self, value: object, status: int = 200) -> None:
        self.reply(status, msgspec.json.encode(value))

    def begin_stream(self) -> None:
        self.is_streaming = True
        self._connection.write(_STREAM_HEAD)

    def send(self, events: bytes) -> None:
        self._connection.write(b"%x\r\n%b\r\n" % (len(events), events))

    def end_stream(self, events: bytes) -> None:
        self._connection.write(b"%x\r\n%b\r\n" % (len(events), events) + _LAST_CHUNK)
        self._connection.finish(self)

    def drop(self) -> None:
        """Reset the connection behind what has been sent."""
        self._connection.drop()


class Connection(asyncio.Protocol):
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._keeps_alive = True
        self._is_ending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are transports without being a subclass.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=MOST_UNREAD_BYTES)
        self._handler.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._handler.closed(self)
        self._lose_exchange()

    def pause_writing(self) -> None:
        self.reset()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self.reset()
            raise
        except httptools.HttpParserError:
            self.reset()

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > MOST_BODY_BYTES:
            self.reset()

    def on_message_complete(self) -> None:
        if self._is_ending or self._exchange is not None:
            self.reset()
            return
        self._keeps_alive = self._parser.should_keep_alive()
        path = self._url.split(b"?", 1)[0].decode("latin-1")
        method = self._parser.get_method().decode()
        self._exchange = Exchange(self, method, path, self._headers, b"".join(self._body))
        self._handler.handle(self._exchange)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._is_ending:
            self._transport.write(data)

    def finish(self, exchange: Exchange) -> None:
        """The exchange is answered; the next one may come."""
        if self._exchange is exchange:
            self._exchange = None
            if not self._keeps_alive and self._transport is not None:
                self._transport.close()

    def reset(self) -> None:
        """Break off at once: the client sees a reset, not an end."""
        if self._transport is not None:
            self._linger_not()
            self._transport.abort()
            self._lose_exchange()

    def drop(self) -> None:
        """Reset it once all that was written is out."""
        if self._transport is not None:
            self._linger_not()
            self._transport.close()
            self._lose_exchange()

    def _linger_not(self) -> None:
        """Let closing send a reset: SO_LINGER with no time to wait."""
        self._is_ending = True
        if self._transport is not None:
            opened = self._transport.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _lose_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.on_lost is not None:
            exchange.on_lost()
