"""The client of the measurements: one streamed completion, timed from the request's first byte."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import aiohttp
import msgspec


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(_Chunk)


class BenchFailed(Exception):
    """A measured request was refused or broke, so there is nothing to measure."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Somewhere that speaks OpenAI's wire: `url` ends in `/v1`."""

    url: str
    key: str
    model: str


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One answer: seconds to its first token and to its end, and its tokens."""

    ttft_s: float
    total_s: float
    prompt_tokens: int
    completion_tokens: int

    @property
    def decode_tokens_per_s(self) -> float:
        return (self.completion_tokens - 1) / (self.total_s - self.ttft_s)


def new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120)
    )


async def complete(
    session: aiohttp.ClientSession, target: Target, messages: list[dict[str, str]], **fields: Any
) -> Timed:
    """Stream one completion. Raises BenchFailed."""
    body = {
        "model": target.model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }
    started = perf_counter()
    async with session.post(
        f"{target.url}/chat/completions",
        data=msgspec.json.encode(body),
        headers={"authorization": f"Bearer {target.key}", "content-type": "application/json"},
    ) as response:
        if response.status != 200:
            raise BenchFailed(f"{target.url} answered {response.status}: {await response.text()}")
        return await _read(response.content, started)


async def _read(stream: aiohttp.StreamReader, started: float) -> Timed:
    first: float | None = None
    usage: _Usage | None = None
    async for line in stream:
        if not line.startswith(b"data: {"):
            continue
        chunk = _DECODER.decode(line[6:])
        if chunk.error:
            raise BenchFailed(f"the stream broke: {chunk.error}")
        if first is None and chunk.choices and chunk.choices[0].delta.content:
            first = perf_counter()
        usage = chunk.usage or usage
    ended = perf_counter()
    if first is None or usage is None:
        raise BenchFailed("an answer without a token, or without its usage")
    return Timed(
        ttft_s=first - started,
        total_s=ended - started,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


async def create_conversation(
    session: aiohttp.ClientSession, target: Target, items: list[dict[str, str]]
) -> str:
    """A conversation with a past, so that its next turn isn't the first and asks for no title."""
    async with session.post(
        f"{target.url}/conversations",
        json={"items": items},
        headers={"authorization": f"Bearer {target.key}"},
    ) as response:
        if response.status >= 300:
            raise BenchFailed(f"no conversation: {response.status} {await response.text()}")
        created = await response.json()
        return str(created["id"])
