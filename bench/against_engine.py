"""Tokens a second and time to first token: all planes against the bare engine, interleaved in one run.

Each round asks the same by three ways, in an order that changes from round to round, so that what else the
machine does meets all alike; a round's ratios are taken within it, and their median is what counts.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import aiohttp

from bench.client import Timed, complete, create_conversation, new_session
from bench.stack import Stack
from triplane.main.api import SYSTEM_POLICY

WAYS = ("engine", "stateless", "turn")
MAX_TOKENS = 64

_SYSTEM = {"role": "system", "content": SYSTEM_POLICY}
_PAST = [
    {"role": "user", "content": "I collect stories about old lighthouses."},
    {"role": "assistant", "content": "A fine thing to collect. Which coast do you like best?"},
]

Ask = Callable[[str], Awaitable[Timed]]


@dataclass(frozen=True, kw_only=True)
class Round:
    """One way in one round: tokens a second over all streams together, and the median TTFT."""

    tokens_per_s: float
    ttft_s: float
    prompt_tokens: float


@dataclass(frozen=True, kw_only=True)
class AgainstEngine:
    """The medians over all rounds, and those of each round's ratios to the bare engine."""

    streams: int
    tokens_per_s: dict[str, float]
    ttft_ms: dict[str, float]
    prompt_tokens: dict[str, float]
    tokens_ratio: dict[str, float]
    ttft_added_ms: dict[str, float]


async def measure(stack: Stack, streams: int, rounds: int) -> AgainstEngine:
    async with new_session() as session:
        await _round(session, stack, streams, -1)
        measured = [await _round(session, stack, streams, number) for number in range(rounds)]
    engine = [each["engine"] for each in measured]

    def middle(way: str, of: Callable[[Round, Round], float]) -> float:
        return median(of(each[way], bare) for each, bare in zip(measured, engine, strict=True))

    return AgainstEngine(
        streams=streams,
        tokens_per_s={way: middle(way, lambda own, _: own.tokens_per_s) for way in WAYS},
        ttft_ms={way: middle(way, lambda own, _: own.ttft_s * 1e3) for way in WAYS},
        prompt_tokens={way: middle(way, lambda own, _: own.prompt_tokens) for way in WAYS},
        tokens_ratio={
            way: middle(way, lambda own, bare: own.tokens_per_s / bare.tokens_per_s) for way in WAYS
        },
        ttft_added_ms={way: middle(way, lambda own, bare: (own.ttft_s - bare.ttft_s) * 1e3) for way in WAYS},
    )


async def _round(session: aiohttp.ClientSession, stack: Stack, streams: int, number: int) -> dict[str, Round]:
    asks = await _asks(session, stack, streams)
    first = number % len(WAYS)
    results: dict[str, Round] = {}
    for way in (*WAYS[first:], *WAYS[:first]):
        questions = [f"Story {number} of {stream}: tell me of a storm at sea." for stream in range(streams)]
        started = perf_counter()
        answers = await asyncio.gather(
            *(ask(question) for ask, question in zip(asks[way], questions, strict=True))
        )
        elapsed = perf_counter() - started
        results[way] = Round(
            tokens_per_s=sum(answer.completion_tokens for answer in answers) / elapsed,
            ttft_s=median(answer.ttft_s for answer in answers),
            prompt_tokens=median(answer.prompt_tokens for answer in answers),
        )
    return results


async def _asks(session: aiohttp.ClientSession, stack: Stack, streams: int) -> dict[str, list[Ask]]:
    """For each way and stream, how to ask; the prompts that reach the engine are the same."""

    async def engine(question: str) -> Timed:
        return await complete(session, stack.engine, _whole_prompt(question), **_FIELDS)

    async def stateless(question: str) -> Timed:
        return await complete(session, stack.planes, _whole_prompt(question), **_FIELDS)

    def turn_of(conversation: str) -> Ask:
        async def turn(question: str) -> Timed:
            only_new = [{"role": "user", "content": question}]
            return await complete(session, stack.planes, only_new, conversation_id=conversation, **_FIELDS)

        return turn

    conversations = [await create_conversation(session, stack.planes, _PAST) for _ in range(streams)]
    return {
        "engine": [engine] * streams,
        "stateless": [stateless] * streams,
        "turn": [turn_of(conversation) for conversation in conversations],
    }


_FIELDS = {"max_tokens": MAX_TOKENS, "temperature": 0}


def _whole_prompt(question: str) -> list[dict[str, str]]:
    return [_SYSTEM, *_PAST, {"role": "user", "content": question}]
