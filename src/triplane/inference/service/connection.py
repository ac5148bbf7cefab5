"""One client's connection: HTTP/1.1 held to its rules, one request at a time.

A client that hangs up cancels the work on its request at once, also before the first byte of the answer. A
request that comes before the last one is answered (pipelining) isn't served: the connection closes behind
the answer, and the client asks again, as RFC 9112, 9.3.2 has it.
"""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from triplane.domain.errors import TriplaneError
from triplane.inference.service.reply import Reply
from triplane.inference.service.request import (
    READ_HEADERS,
    Head,
    HeadTooLarge,
    MalformedRequest,
    RequestTimeout,
)
from triplane.wire.strict_json import body_too_large

MAX_BARREN_BYTES = 32 * 1024
"""How much may come without a byte of a body: heads, trailers, chunk extensions."""
MAX_IGNORED_BYTES = 1024 * 1024
WRITE_BUFFER_BYTES = 64 * 1024
HEAD_S = 10.0
"""From a connection's first byte, or its opening, to the end of a request's head."""
BODY_S = 60.0
KEEP_ALIVE_S = 75.0
STALL_S = 60.0
"""A client that has taken nothing for so long is dropped."""
LINGER_S = 2.0
"""How long a refused client may go on sending before the connection closes, so that it can read why."""
PING_S = 15.0
STATUS_WAIT_S = 5.0
"""How long a stream waits for its first event before it commits to status 200 and heartbeats."""

_NEVER = float("inf")


class Application(Protocol):
    """What is behind the connection."""

    def look(self) -> None:
        """Called once a second."""
        ...

    def admit(self, head: Head) -> Any:
        """Before the body is read. What it returns goes to `respond`. Raises TriplaneError."""
        ...

    def respond(self, admitted: Any, head: Head, body: bytes, reply: Reply) -> Coroutine[Any, Any, None]:
        """Answer; runs as a task, which is cancelled when the client goes away."""
        ...

    def refuse(self, error: TriplaneError, head: Head | None, reply: Reply) -> None:
        """Answer with an error."""
        ...

    def failed(self, error: BaseException, reply: Reply | None) -> None:
        """`respond` raised what nobody foresaw: answer if that can still be done (None: it has been)."""
        ...


class Owner(Protocol):
    """The server."""

    application: Application
    max_body_bytes: int
    is_draining: bool
    date: bytes
    running: set[asyncio.Task[None]]
    """What answers requests, also behind a connection that is gone already."""

    def opened(self, connection: "ServerConnection") -> bool:
        """Whether there is room for it."""
        ...

    def closed(self, connection: "ServerConnection") -> None: ...


class ServerConnection(asyncio.Protocol):
    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._deadline = _NEVER
        self._barren = 0
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._head: Head | None = None
        self._admitted: Any = None
        self._refusal: TriplaneError | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._ignored = 0
        self._is_deaf = False
        """What comes now is ignored: a request is being answered, or the connection ends."""
        self._is_ending = False
        self._clogged_since = 0.0
        self._unclogged: asyncio.Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        return self._reply is not None

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def date(self) -> bytes:
        return self._owner.date

    # For the server.

    def look(self, now: float) -> None:
        """Once a second: whoever is too slow is dropped, and whoever waits for us hears of us."""
        reply = self._reply
        if self._clogged_since and now - self._clogged_since > STALL_S:
            self.hang_up()
        elif now > self._deadline:
            self._overdue()
        elif reply is not None and reply.is_stream and not self._clogged_since:
            if not reply.is_committed:
                if now - reply.opened_at > STATUS_WAIT_S:
                    reply.commit()
            elif now - reply.written_at > PING_S:
                reply.ping()

    def drain(self) -> None:
        """Close once the present request is answered."""
        if self._reply is not None:
            self._reply.close_after()
        elif self._transport is not None and not self._barren and self._head is None and not self._is_ending:
            self._transport.close()

    # For the reply.

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def replied(self, *, keep_alive: bool) -> None:
        self._reply = None
        self._task = None
        if self._transport is None:
            return
        if keep_alive and not self._ignored and not self._owner.is_draining:
            self._is_deaf = False
            self._deadline = self._loop.time() + KEEP_ALIVE_S
        else:
            self._end()

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def drained(self) -> None:
        while self._clogged_since and self._transport is not None:
            self._unclogged = self._loop.create_future()
            try:
                await self._unclogged
            finally:
                self._unclogged = None

    # asyncio calls these.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if not self._owner.opened(self):
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        endpoint = transport.get_extra_info("socket")
        if endpoint is not None and endpoint.family in (socket.AF_INET, socket.AF_INET6):
            endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = HttpRequestParser(self)
        self._deadline = self._loop.time() + HEAD_S

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._ignored += len(data)
            if self._ignored > MAX_IGNORED_BYTES:
                self.hang_up()
            return
        if not self._barren and self._head is None:
            self._deadline = self._loop.time() + HEAD_S
        self._barren += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._refuse_now(MalformedRequest("This server doesn't switch to another protocol."))
        except HttpParserError as error:
            cause = error.__context__
            known = isinstance(cause, TriplaneError)
            self._refuse_now(cause if known else MalformedRequest("This isn't valid HTTP/1.1."))  # type: ignore[arg-type]
        else:
            if self._barren > MAX_BARREN_BYTES:
                self._refuse_now(_head_too_large())

    def eof_received(self) -> None:
        """Whoever closes its side won't wait for an answer: asyncio closes ours."""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._transport = None
        self._parser = None
        self._clogged_since = 0.0
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()
        self._owner.closed(self)

    def pause_writing(self) -> None:
        self._clogged_since = self._loop.time()
        if self._reply is not None:
            self._reply.is_clogged = True

    def resume_writing(self) -> None:
        self._clogged_since = 0.0
        if self._reply is not None:
            self._reply.is_clogged = False
        if self._unclogged is not None and not self._unclogged.done():
            self._unclogged.set_result(None)

    # The parser calls these.

    def on_message_begin(self) -> None:
        if self._is_deaf:
            return
        self._url = b""
        self._headers = {}
        self._head_bytes = 0
        self._head = None
        self._refusal = None
        self._body.clear()
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        name = name.lower()
        if name in READ_HEADERS and self._head is None and not self._is_deaf:
            if name in self._headers:
                raise MalformedRequest(f"The header {name.decode()} came twice.")
            self._headers[name] = value

    def _count_head(self, size: int) -> None:
        """A head that comes in one read, or with a body behind it, is held to the same bound."""
        self._head_bytes += size
        if self._head_bytes > MAX_BARREN_BYTES and not self._is_deaf:
            raise _head_too_large()

    def on_headers_complete(self) -> None:
        if self._is_deaf:
            return
        headers = self._headers
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise MalformedRequest("This server speaks HTTP/1.1.")
        if version == "1.1" and b"host" not in headers:
            raise MalformedRequest("The header Host is missing.")
        path = self._url.partition(b"?")[0].decode("latin-1")
        self._head = head = Head(method=self._parser.get_method().decode(), path=path, headers=headers)
        self._deadline = self._loop.time() + BODY_S
        if int(headers.get(b"content-length", b"0")) > self._owner.max_body_bytes:
            raise body_too_large(self._owner.max_body_bytes)
        try:
            self._admitted = self._owner.application.admit(head)
        except TriplaneError as error:
            self._refusal = error
        if headers.get(b"expect", b"").lower() == b"100-continue":
            if self._refusal is not None:
                raise self._refusal
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, piece: bytes) -> None:
        self._barren = 0
        if self._is_deaf:
            return
        self._body_bytes += len(piece)
        if self._body_bytes > self._owner.max_body_bytes:
            raise body_too_large(self._owner.max_body_bytes)
        if self._refusal is None:
            self._body.append(piece)

    def on_message_complete(self) -> None:
        if self._is_deaf:
            self._ignore()
            return
        self._barren = 0
        self._deadline = _NEVER
        head, self._head = self._head, None
        assert head is not None, "a message completes behind its head"
        reply = self._new_reply(keep_alive=self._parser.should_keep_alive() and not self._owner.is_draining)
        if self._refusal is not None:
            self._owner.application.refuse(self._refusal, head, reply)
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        admitted, self._admitted = self._admitted, None
        self._task = task = self._loop.create_task(
            self._owner.application.respond(admitted, head, body, reply)
        )
        self._owner.running.add(task)
        task.add_done_callback(self._responded)

    def _responded(self, task: asyncio.Task[None]) -> None:
        self._owner.running.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._owner.application.failed(error, self._reply if self._task is task else None)

    def _new_reply(self, *, keep_alive: bool) -> Reply:
        is_http_1_1 = self._parser.get_http_version() == "1.1"
        self._reply = reply = Reply(
            self, self._loop, is_http_1_1=is_http_1_1, keep_alive=keep_alive and is_http_1_1
        )
        self._is_deaf = True
        reply.is_clogged = bool(self._clogged_since)
        return reply

    def _ignore(self) -> None:
        """Something came behind a request that isn't answered yet."""
        self._ignored += 1
        if self._reply is not None:
            self._reply.close_after()

    def _refuse_now(self, error: TriplaneError) -> None:
        """Answer what can't be read to its end, and close."""
        if self._is_deaf:
            self._ignore()
        elif self._transport is not None:
            reply = self._new_reply(keep_alive=False)
            self._owner.application.refuse(error, self._head, reply)

    def _overdue(self) -> None:
        if self._is_ending:
            self.hang_up()
        elif self._head is None and not self._barren and self._transport is not None:
            self._transport.close()
        else:
            self._refuse_now(RequestTimeout("The request didn't arrive in time."))

    def _end(self) -> None:
        """Close, but let the client read what was written: a reset could take it away (RFC 9112, 9.6)."""
        assert self._transport is not None
        self._is_ending = self._is_deaf = True
        self._deadline = self._loop.time() + LINGER_S
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"The head is larger than {MAX_BARREN_BYTES:,} bytes.")
