"""A response: its head, and its body as it comes."""

import asyncio
from typing import Protocol

from triplane.inference.http1.errors import Disconnected, Http1Error

MAX_UNREAD_BYTES = 64 * 1024
"""More than this unread stops reading from the socket, so that a stream's memory is bounded: by this and one
read of the socket (64 or 256 KiB)."""


class Channel(Protocol):
    """The connection, as far as a response steers it."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None: ...


class Response:
    """Read it to its end, or `abort` it; a complete one has given its connection back. One reader at a time.

    The names of `headers` are lower case; of one that comes twice the values are joined by commas.
    """

    __slots__ = (
        "_connection",
        "_error",
        "_is_paused",
        "_loop",
        "_pieces",
        "_unread",
        "_waiter",
        "headers",
        "is_complete",
        "status",
    )

    def __init__(
        self, status: int, headers: dict[str, str], connection: Channel, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.status = status
        self.headers = headers
        self.is_complete = False
        """The last byte is here, though maybe not read yet."""
        self._connection: Channel | None = connection
        self._loop = loop
        self._pieces: list[bytes] = []
        self._unread = 0
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: Http1Error | None = None

    async def read(self) -> bytes:
        """All that is here, at least one byte; b"" behind the last. Raises Disconnected, InvalidResponse.

        What came before the connection broke is given before the error is raised.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.is_complete:
                return b""
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take()

    def read_nowait(self) -> bytes:
        """What is here and unread; b"" if nothing is."""
        return self._take() if self._pieces else b""

    def abort(self) -> None:
        """Done with it: close the connection now unless all has come; a `read` that waits raises."""
        connection, self._connection = self._connection, None
        if connection is not None and not self.is_complete:
            self._pieces.clear()
            self.fail(Disconnected("the response was given up"))
            connection.abort()

    def take_piece(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._unread += len(piece)

    def arrived(self) -> None:
        """Pieces came in: wake the reader, and stop the server if there is none."""
        waiter = self._waiter
        if waiter is not None:
            if not waiter.done():
                waiter.set_result(None)
        elif self._unread > MAX_UNREAD_BYTES and not self._is_paused and self._connection is not None:
            self._is_paused = True
            self._connection.pause()

    def complete(self) -> None:
        self.is_complete = True
        self._connection = None
        self._wake()

    def fail(self, error: Http1Error) -> None:
        if self._error is None and not self.is_complete:
            self._error = error
        self._connection = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._unread = 0
        if self._is_paused:
            self._is_paused = False
            if self._connection is not None:
                self._connection.resume()
        return data
