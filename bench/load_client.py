"""A load client that costs little: one prepared request per connection, its answer counted in place."""

import asyncio
from dataclasses import dataclass, field
from time import perf_counter

import msgspec

from bench.client import BenchFailed

_END_OF_CHUNKS = b"0\r\n\r\n"
_EVENT = b"data: {"
_TOKEN = b'"content":"word '


@dataclass
class Counts:
    """What all connections of a run have seen; `ttft_s` has one entry for each answer."""

    answers: int = 0
    events: int = 0
    tokens_begun: int = 0
    ttft_s: list[float] = field(default_factory=list)


def request_bytes(
    port: int, key: str, words: int, *, stream: bool, conversation_id: str | None = None
) -> bytes:
    conversation = {"conversation_id": conversation_id} if conversation_id else {}
    body = msgspec.json.encode(
        {
            **conversation,
            "model": "zero-delay",
            "messages": [{"role": "user", "content": "How are you?"}],
            "max_tokens": words,
            "stream": stream,
        }
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\naccept: application/json\r\nuser-agent: load\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class LoadConnection(asyncio.Protocol):
    """Asks again and again, `times` times; `done` then has no result, or the error that ended it."""

    def __init__(self, request: bytes, times: int, counts: Counts, *, stream: bool) -> None:
        self._request = request
        self._left = times
        self._counts = counts
        self._is_stream = stream
        self._transport: asyncio.Transport | None = None
        self._asked_at = 0.0
        self._has_token = False
        self._whole = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        if not self._is_stream:
            self._take_whole(data)
            return
        counts = self._counts
        counts.events += data.count(_EVENT)
        if not self._has_token and _TOKEN in data:
            self._has_token = True
            counts.tokens_begun += 1
            counts.ttft_s.append(perf_counter() - self._asked_at)
        if data.endswith(_END_OF_CHUNKS):
            self._answered(self._has_token)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(BenchFailed("the connection closed before the answer was whole"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _ask(self) -> None:
        assert self._transport is not None
        self._has_token = False
        self._asked_at = perf_counter()
        self._transport.write(self._request)

    def _take_whole(self, data: bytes) -> None:
        self._whole += data
        head, separator, body = self._whole.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        if len(body) >= length:
            self._whole = b""
            self._counts.ttft_s.append(perf_counter() - self._asked_at)
            self._answered(head.startswith(b"HTTP/1.1 200"))

    def _answered(self, is_good: bool) -> None:
        if not is_good:
            self.done.set_exception(BenchFailed("an answer without a token"))
            return
        self._counts.answers += 1
        self._left -= 1
        if self._left:
            self._ask()
        elif not self.done.done():
            self.done.set_result(None)


async def open_connections(
    port: int, request: bytes, count: int, times: int, counts: Counts, *, stream: bool
) -> list[LoadConnection]:
    """Connections that ask at once."""
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(count):
        _, connection = await loop.create_connection(
            lambda: LoadConnection(request, times, counts, stream=stream), "127.0.0.1", port
        )
        opened.append(connection)
    return opened


async def finish(connections: list[LoadConnection], within_s: float) -> None:
    """Wait for their ends, and close them. Raises BenchFailed."""
    try:
        async with asyncio.timeout(within_s):
            for connection in connections:
                await connection.done
    finally:
        for connection in connections:
            connection.done.cancel()
            connection.close()
