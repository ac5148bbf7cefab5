"""One connection to Redis as a bare protocol: commands out in order, answers in the same order (RESP2)."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

ANSWER_TIMEOUT_S = 5.0

Answer = asyncio.Future[Any]


class Link(asyncio.Protocol):
    """`lost` is called once, when it is of no more use; what was unanswered then has failed.

    An answer that doesn't come within `answer_timeout_s`, or up to twice that, costs the connection: those
    behind it can't come either.
    """

    def __init__(self, lost: Callable[["Link"], None], answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._lost = lost
        self._answer_timeout_s = answer_timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=_refusal)
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._pending: deque[Answer] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._reason: Exception = RedisConnectionError("Redis hung up.")

    @property
    def due(self) -> int:
        """How many answers are due."""
        return len(self._pending)

    def send(self, packed: bytes, answer: Answer) -> None:
        """`packed` goes out with all that is sent in this moment, and `answer` gets what comes for it."""
        if self._transport is None:
            answer.set_exception(self._reason)
            return
        self._pending.append(answer)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packed)
        if self._watch is None:
            self._watch = self._loop.call_later(self._answer_timeout_s, self._look, answer)

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    async def aclose(self, within_s: float) -> None:
        if self._pending:
            await asyncio.wait(list(self._pending), timeout=within_s)
        self.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        reader, pending = self._reader, self._pending
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                answer = pending.popleft()
                if answer.done():
                    continue
                if isinstance(reply, Exception):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
        except (InvalidResponse, IndexError):
            self._fail(InvalidResponse("Redis said what isn't RESP."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._watch:
            self._watch.cancel()
        self._lost(self)
        pending, self._pending = self._pending, deque()
        for answer in pending:
            if not answer.done():
                answer.set_exception(self._reason)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._transport:
            self._transport.write(b"".join(outgoing))

    def _look(self, oldest: Answer) -> None:
        """Called a while after `oldest` was sent; a cancelled one is still due."""
        self._watch = None
        if not self._pending:
            return
        if self._pending[0] is oldest:
            self._fail(RedisTimeoutError("Redis doesn't answer."))
        else:
            self._watch = self._loop.call_later(self._answer_timeout_s, self._look, self._pending[0])

    def _fail(self, reason: Exception) -> None:
        self._reason = reason
        self.abort()


def _refusal(text: str) -> ResponseError:
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)
