"""The answer to one request: whole, or as a stream in chunks (RFC 9112, 7.1)."""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

Headers = Iterable[tuple[str, str]]

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_STREAM_HEAD = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache, no-transform\r\n"
    b"x-accel-buffering: no\r\n"
)
PING = b": ping\n"


class Line(Protocol):
    """The connection, as far as a reply needs it."""

    @property
    def date(self) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def replied(self, *, keep_alive: bool) -> None:
        """The last byte of the reply is written."""
        ...

    def hang_up(self) -> None: ...

    async def drained(self) -> None:
        """Wait until the client has taken most of what was written."""
        ...


class Reply:
    """Use it for `send`, or for `open_stream`, `write`… and `end`.

    Frames that are written before the loop turns go out as one chunk and in one write: those of one read of
    the engine. Until the head is out (`is_committed`) `send` can still tell of an error with its status.
    """

    __slots__ = (
        "_chunked",
        "_frames",
        "_head",
        "_is_over",
        "_keep_alive",
        "_line",
        "_loop",
        "_scheduled",
        "is_clogged",
        "is_committed",
        "is_stream",
        "opened_at",
        "status",
        "written_at",
    )

    def __init__(
        self, line: Line, loop: asyncio.AbstractEventLoop, *, is_http_1_1: bool, keep_alive: bool
    ) -> None:
        self._line = line
        self._loop = loop
        self._chunked = is_http_1_1
        self._keep_alive = keep_alive
        self._head = b""
        self._frames: list[bytes] = []
        self._scheduled = False
        self._is_over = False
        self.is_clogged = False
        """The client is slow: wait for `drained` before more is written."""
        self.is_committed = False
        self.is_stream = False
        self.status = 0
        self.opened_at = 0.0
        self.written_at = 0.0

    def close_after(self) -> None:
        """Don't keep the connection behind this reply."""
        self._keep_alive = False

    def send(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole reply. What was written of a stream but not sent yet is dropped."""
        assert not self.is_committed, "a reply begins once"
        self.is_stream = False
        self._frames.clear()
        self.is_committed = True
        self.status = status
        head = self._head_of(status, headers)
        self._line.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        self._end()

    def open_stream(self, headers: Headers, first: bytes) -> None:
        """A stream of server-sent events. Its head and `first` go out with the frame that follows, or by
        `commit`."""
        self.is_stream = True
        self.status = 200
        self.opened_at = self.written_at = self._loop.time()
        if not self._chunked:
            self._keep_alive = False
        framing = b"transfer-encoding: chunked\r\n\r\n" if self._chunked else b"\r\n"
        self._head = self._head_of(200, headers) + _STREAM_HEAD + framing
        self._frames.append(first)

    def write(self, frame: bytes) -> None:
        if self._is_over:
            return
        self._frames.append(frame)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def commit(self) -> None:
        """Send the head now."""
        if not self.is_committed:
            self._flush()

    def ping(self) -> None:
        self._frames.append(PING)
        self._flush()

    async def drained(self) -> None:
        await self._line.drained()

    def end(self) -> None:
        """The stream is whole."""
        self._put(b"0\r\n\r\n" if self._chunked else b"")
        self._end()

    def give_up(self) -> None:
        """Break the stream off: the client sees that it isn't whole."""
        self._is_over = True
        self._line.hang_up()

    def _flush(self) -> None:
        self._scheduled = False
        if not self._is_over and (self._frames or not self.is_committed):
            self._put(b"")

    def _put(self, behind: bytes) -> None:
        frames = self._frames
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        frames.clear()
        if data and self._chunked:
            data = b"%x\r\n%b\r\n%b" % (len(data), data, behind)
        else:
            data += behind
        if not self.is_committed:
            self.is_committed = True
            data = self._head + data
            self._head = b""
        self.written_at = self._loop.time()
        if data:
            self._line.write(data)

    def _end(self) -> None:
        self._is_over = True
        self._line.replied(keep_alive=self._keep_alive)

    def _head_of(self, status: int, headers: Headers) -> bytes:
        text = "".join([f"{name}: {value}\r\n" for name, value in headers])
        closing = b"" if self._keep_alive else b"connection: close\r\n"
        return b"".join((_STATUS_LINES[status], self._line.date, text.encode("latin-1"), closing))
