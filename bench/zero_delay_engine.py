"""An engine that costs nothing: OpenAI's wire from a bare protocol, so that what is left to measure is ours.

It answers each request with as many one-word chunks as `max_tokens` says, at once or at a cadence.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

MODEL = "zero-delay"

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_PROMPT_TOKENS = 10
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_LAST_CHUNK = b"0\r\n\r\n"


class Asked(msgspec.Struct):
    max_tokens: int = 1
    max_completion_tokens: int | None = None
    stream: bool = False

    @property
    def words(self) -> int:
        return self.max_completion_tokens or self.max_tokens


class ZeroDelayEngine:
    """`cadence_s` lies between two chunks of a stream; at 0 the whole answer goes out in one write."""

    def __init__(self) -> None:
        self.cadence_s = 0.0
        self.requests = 0
        self.url = ""

        self.open: set[asyncio.Transport] = set()

    def connection(self) -> asyncio.Protocol:
        return _Connection(self)

    def hang_up(self) -> None:
        for transport in list(self.open):
            transport.abort()


@asynccontextmanager
async def running_zero_delay_engine() -> AsyncIterator[ZeroDelayEngine]:
    engine = ZeroDelayEngine()
    server = await asyncio.get_running_loop().create_server(engine.connection, "127.0.0.1", 0)
    engine.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield engine
    finally:
        server.close()
        engine.hang_up()
        await server.wait_closed()


class _Connection(asyncio.Protocol):
    def __init__(self, engine: ZeroDelayEngine) -> None:
        self._engine = engine
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._engine.open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport:
            self._engine.open.discard(self._transport)
            self._transport = None
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(rest) >= size:
            self._buffer = rest[size:]
            self._answer(head, rest[:size])

    def _answer(self, head: bytes, body: bytes) -> None:
        self._engine.requests += 1
        if head.startswith(b"GET "):
            self._write_json(_MODELS)
            return
        asked = msgspec.json.decode(body, type=Asked)
        if not asked.stream:
            self._write_json(_whole(asked.words))
        elif self._engine.cadence_s:
            self._write(_STREAM_HEAD + _chunked(_FIRST))
            self._tick(asked.words, asked.words, asyncio.get_running_loop().time())
        else:
            words = _chunked(_WORD) * asked.words
            self._write(_STREAM_HEAD + _chunked(_FIRST) + words + _end(asked.words))

    def _tick(self, left: int, words: int, due: float) -> None:
        """Write the next word at its time; each time follows from the first, so that no delay adds up."""
        if not left:
            self._write(_end(words))
            return
        self._write(_chunked(_WORD))
        due += self._engine.cadence_s
        self._timer = asyncio.get_running_loop().call_at(due, self._tick, left - 1, words, due)

    def _write_json(self, body: bytes) -> None:
        self._write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )

    def _write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)


_MODELS = msgspec.json.encode(
    {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "bench"}]}
)


def _usage(words: int) -> dict[str, object]:
    return {
        "prompt_tokens": _PROMPT_TOKENS,
        "completion_tokens": words,
        "total_tokens": _PROMPT_TOKENS + words,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _event(choices: list[dict[str, object]], words: int | None = None) -> bytes:
    chunk: dict[str, object] = {
        "id": "chatcmpl-zero",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": MODEL,
        "choices": choices,
    }
    if words is not None:
        chunk["usage"] = _usage(words)
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def _choice(delta: dict[str, str], reason: str | None = None) -> list[dict[str, object]]:
    return [{"index": 0, "delta": delta, "finish_reason": reason}]


_FIRST = _event(_choice({"role": "assistant", "content": ""}))
_WORD = _event(_choice({"content": "word "}))


def _chunked(event: bytes) -> bytes:
    return b"%x\r\n" % len(event) + event + b"\r\n"


def _end(words: int) -> bytes:
    events = _event(_choice({}, "stop")) + _event([], words) + b"data: [DONE]\n\n"
    return _chunked(events) + _LAST_CHUNK


def _whole(words: int) -> bytes:
    message = {"role": "assistant", "content": "word " * words}
    return msgspec.json.encode(
        {
            "id": "chatcmpl-zero",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _usage(words),
        }
    )
