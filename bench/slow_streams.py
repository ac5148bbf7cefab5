"""Many slow streams at once on one API worker: an event a second each, and what each costs in memory and CPU.

Engine and clients are bare protocols in this process, so that they keep up with what they measure.
"""

import asyncio
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import aiohttp

from bench.client import create_conversation, new_session
from bench.load_client import Counts, LoadConnection, finish, open_connections, request_bytes
from bench.stack import Stack
from bench.zero_delay_engine import ZeroDelayEngine

STREAMS = 2000
_WINDOW_S, _RAMP_S = 10.0, 60.0
_OPENED_AT_ONCE = 50
_RAMP_EVENTS = 20
_FILES = 4 * STREAMS + 500


Way = Literal["stateless", "turn"]


@dataclass(frozen=True, kw_only=True)
class SlowStreams:
    """`core_used`: the share of a core that the worker needs for all of them. Times until the first token."""

    streams: int
    kib_per_stream: float
    core_used: float
    cpu_us_per_event: float
    events_per_s: float
    ttft_ms_p50: float


async def measure(stack: Stack, engine: ZeroDelayEngine, way: Way) -> SlowStreams:
    """Of a stack that has just started: memory that was in use before is used again without a trace. A turn
    is in a conversation of its own. Every answer must come whole."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, _FILES), hard), hard))
    assert len(stack.workers) == 1, "one worker is measured"
    engine.cadence_s = 1.0
    if way == "stateless":
        return await _measure(stack, iter([None] * STREAMS))
    async with new_session() as session:
        return await _measure(stack, iter(await _conversations(session, stack)))


async def _conversations(session: aiohttp.ClientSession, stack: Stack) -> list[str]:
    past = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
    made: list[str] = []
    while len(made) < STREAMS:
        some = min(_OPENED_AT_ONCE, STREAMS - len(made))
        made += await asyncio.gather(*(create_conversation(session, stack.planes, past) for _ in range(some)))
    return made


async def _measure(stack: Stack, conversations: Iterator[str | None]) -> SlowStreams:
    before, counts = stack.memory_bytes(), Counts()
    words = int(_WINDOW_S) + _RAMP_EVENTS
    opened: list[LoadConnection] = []
    try:
        while len(opened) < STREAMS:
            requests = [_request(stack, words, next(conversations)) for _ in range(_OPENED_AT_ONCE)]
            for request in requests:
                opened += await open_connections(stack.port, request, 1, 1, counts, stream=True)
            await _all_begun(counts, len(opened))
        events, cpu, began = counts.events, stack.cpu_s(), perf_counter()
        await asyncio.sleep(_WINDOW_S)
        wall, cpu, events = perf_counter() - began, stack.cpu_s() - cpu, counts.events - events
        memory = stack.memory_bytes() - before
    finally:
        await finish(opened, _RAMP_S)
    return SlowStreams(
        streams=STREAMS,
        kib_per_stream=memory / STREAMS / 1024,
        core_used=cpu / wall,
        cpu_us_per_event=cpu / events * 1e6,
        events_per_s=events / wall,
        ttft_ms_p50=sorted(counts.ttft_s)[len(counts.ttft_s) // 2] * 1e3,
    )


async def _all_begun(counts: Counts, streams: int) -> None:
    async with asyncio.timeout(_RAMP_S):
        while True:
            if counts.tokens_begun >= streams:
                return
            await asyncio.sleep(0.01)


def _request(stack: Stack, words: int, conversation_id: str | None) -> bytes:
    return request_bytes(stack.port, stack.planes.key, words, stream=True, conversation_id=conversation_id)
