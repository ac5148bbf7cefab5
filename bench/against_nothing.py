"""What the planes themselves cost, before an engine that costs nothing: CPU of the API, time, memory."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter

import aiohttp
import asyncpg

from bench.client import BenchFailed, Timed, complete, create_conversation, new_session
from bench.stack import Stack
from bench.zero_delay_engine import ZeroDelayEngine

CADENCE_S = 0.02
_QUESTION = [{"role": "user", "content": "How are you?"}]

_TURNS_PER_CONVERSATION = 8
_CONNECTIONS = 10
"""As many as the API's pool has."""

Ask = Callable[[int], Awaitable[Timed]]
NewAsker = Callable[[int], Awaitable[Ask]]
"""Makes what asks, given how often it will be asked."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One way of asking. Times are of one request at a time; CPU is the API process's alone."""

    cpu_us_per_request: float
    cpu_us_per_event: float
    added_ttft_ms_p50: float
    added_ttft_ms_p99: float
    postgres_round_trips: float
    kib_per_open_stream: float


@dataclass(frozen=True, kw_only=True)
class Load:
    """How much to ask: sequential requests, streams at once, events of each stream."""

    sequential: int = 300
    requests: int = 1200
    concurrency: int = 8
    streams: int = 32
    events: int = 150


async def measure(stack: Stack, engine: ZeroDelayEngine, load: Load) -> dict[str, Cost]:
    async with new_session() as session:

        async def stateless(words: int) -> Timed:
            return await complete(session, stack.planes, _QUESTION, max_tokens=words)

        bare = await _ttft_ms(_bare(session, stack), engine, load)
        askers: dict[str, NewAsker] = {
            "stateless": lambda _: _same(stateless),
            "turn": lambda asks: new_turns(session, stack, asks),
        }
        return {
            name: await _cost(new_asker, stack, session, engine, load, bare)
            for name, new_asker in askers.items()
        }


def _bare(session: aiohttp.ClientSession, stack: Stack) -> Ask:
    async def ask(words: int) -> Timed:
        return await complete(session, stack.engine, _QUESTION, max_tokens=words)

    return ask


async def _same(ask: Ask) -> Ask:
    return ask


async def new_turns(session: aiohttp.ClientSession, stack: Stack, asks: int) -> Ask:
    """Turns in conversations of a usual length: a new one, made beforehand, every few turns."""
    past = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
    needed = math.ceil(asks / _TURNS_PER_CONVERSATION)
    conversations = [await create_conversation(session, stack.planes, past) for _ in range(needed)]
    turns = (each for each in conversations for _ in range(_TURNS_PER_CONVERSATION))

    async def ask(words: int) -> Timed:
        return await complete(session, stack.planes, _QUESTION, max_tokens=words, conversation_id=next(turns))

    return ask


async def _cost(
    new_asker: NewAsker,
    stack: Stack,
    session: aiohttp.ClientSession,
    engine: ZeroDelayEngine,
    load: Load,
    bare_ttft_ms: list[float],
) -> Cost:
    own = await _ttft_ms(await new_asker(load.sequential + 20), engine, load)
    per_request, round_trips = await _per_request(new_asker, stack, session, engine, load)
    per_event, per_stream = await _per_event(new_asker, stack, engine, load)
    return Cost(
        cpu_us_per_request=per_request,
        cpu_us_per_event=per_event,
        added_ttft_ms_p50=median(own) - median(bare_ttft_ms),
        added_ttft_ms_p99=_p99(own) - _p99(bare_ttft_ms),
        postgres_round_trips=round_trips,
        kib_per_open_stream=per_stream,
    )


async def _ttft_ms(ask: Ask, engine: ZeroDelayEngine, load: Load) -> list[float]:
    """Times to first token, one request at a time, after some that warm up."""
    engine.cadence_s = 0.0
    answers = [await ask(1) for _ in range(load.sequential + 20)]
    return [answer.ttft_s * 1e3 for answer in answers[20:]]


async def _per_request(
    new_asker: NewAsker, stack: Stack, session: aiohttp.ClientSession, engine: ZeroDelayEngine, load: Load
) -> tuple[float, float]:
    """CPU and database transactions of a request with a one-token answer, several at once."""
    engine.cadence_s = 0.0
    each = math.ceil(load.requests / load.concurrency)
    askers = [await new_asker(each + 10) for _ in range(load.concurrency)]

    async def one_after_another(ask: Ask, count: int) -> None:
        for _ in range(count):
            await ask(1)

    await asyncio.gather(*(one_after_another(ask, 10) for ask in askers))
    before, cpu, started = await transactions(stack, session), stack.cpu_s(), perf_counter()
    await asyncio.gather(*(one_after_another(ask, each) for ask in askers))
    cpu, lasted = stack.cpu_s() - cpu, perf_counter() - started
    counted = await transactions(stack, session) - before
    count = each * load.concurrency
    return cpu / count * 1e6, (counted - await idle_transactions(stack, session, lasted)) / count


async def _per_event(
    new_asker: NewAsker, stack: Stack, engine: ZeroDelayEngine, load: Load
) -> tuple[float, float]:
    """CPU of one more event of a stream at cadence, and the memory of a stream while it is open."""
    engine.cadence_s = CADENCE_S
    askers = [await new_asker(3) for _ in range(load.streams)]
    await asyncio.gather(*(ask(5) for ask in askers))

    async def cpu_of(words: int) -> float:
        before = stack.cpu_s()
        await asyncio.gather(*(ask(words) for ask in askers))
        return stack.cpu_s() - before

    short = await cpu_of(1)
    memory = stack.memory_bytes()
    running = asyncio.create_task(cpu_of(load.events + 1))
    await asyncio.sleep(load.events * CADENCE_S / 2)
    memory = stack.memory_bytes() - memory
    long = await running
    per_event = (long - short) / (load.events * load.streams)
    return per_event * 1e6, memory / load.streams / 1024


async def idle_transactions(stack: Stack, session: aiohttp.ClientSession, for_s: float) -> int:
    """What the job worker, the database and the counting itself do in so many seconds."""
    before = await transactions(stack, session)
    await asyncio.sleep(for_s)
    return await transactions(stack, session) - before


async def transactions(stack: Stack, session: aiohttp.ClientSession) -> int:
    """The database's own count, once what every connection of the API has done is in it.

    A session of PostgreSQL reports with a statement that comes a second behind its last report, so each gets
    one. These are counted too: take `idle_transactions` of as long away from what you measure.
    """
    await asyncio.sleep(1.2)
    await asyncio.gather(*(_read_one_conversation(stack, session) for _ in range(_CONNECTIONS)))
    return await _reported_transactions(stack)


async def _read_one_conversation(stack: Stack, session: aiohttp.ClientSession) -> None:
    headers = {"authorization": f"Bearer {stack.planes.key}"}
    async with session.get(f"{stack.planes.url}/conversations?limit=1", headers=headers) as response:
        if response.status != 200:
            raise BenchFailed(f"no list of conversations: {response.status} {await response.text()}")
        await response.read()


async def _reported_transactions(stack: Stack) -> int:
    connection = await asyncpg.connect(stack.database_url)
    try:
        return int(await connection.fetchval("SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database"))
    finally:
        await asyncio.wait_for(connection.close(), 5)


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]
