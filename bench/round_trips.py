"""Round trips to PostgreSQL and Redis, counted by the stores themselves; what they do unasked is subtracted.

PostgreSQL counts transactions: each of our statements is one, and one round trip. Redis counts the reads of
its sockets: a pipeline is one, however many commands it has.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter

import aiohttp
import redis.asyncio

from bench.against_nothing import CADENCE_S, new_turns, transactions
from bench.client import complete, new_session
from bench.stack import Stack
from bench.zero_delay_engine import ZeroDelayEngine

_TURNS, _STREAMS, _EVENTS = 200, 32, 100

_QUESTION = [{"role": "user", "content": "How are you?"}]


@dataclass(frozen=True, kw_only=True)
class RoundTrips:
    postgres: float
    redis: float


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Of a stateless request and of a turn, one at a time, with an answer of one token; and of one more event
    of a turn: of a single one, and of many at once."""

    stateless: RoundTrips
    turn: RoundTrips
    event_alone: RoundTrips
    event_among_many: RoundTrips


async def measure(stack: Stack, engine: ZeroDelayEngine) -> Counted:
    async with new_session() as session, redis.asyncio.Redis.from_url(stack.redis_url) as client:
        counter = _Counter(stack, client, session)
        engine.cadence_s = 0.0

        async def stateless() -> None:
            for _ in range(_TURNS):
                await complete(session, stack.planes, _QUESTION, max_tokens=1)

        ask = await new_turns(session, stack, _TURNS + 3)

        async def turns() -> None:
            for _ in range(_TURNS):
                await ask(1)

        async def events(streams: int) -> RoundTrips:
            """Those of a long answer less those of a short one."""
            engine.cadence_s = CADENCE_S
            asks = [await new_turns(session, stack, 2) for _ in range(streams)]
            short = await counter.count(lambda: asyncio.gather(*(each(1) for each in asks)), 1)
            long = await counter.count(lambda: asyncio.gather(*(each(1 + _EVENTS) for each in asks)), 1)
            count = streams * _EVENTS
            return RoundTrips(
                postgres=(long.postgres - short.postgres) / count, redis=(long.redis - short.redis) / count
            )

        await ask(1)
        return Counted(
            stateless=await counter.count(stateless, _TURNS),
            turn=await counter.count(turns, _TURNS),
            event_alone=await events(1),
            event_among_many=await events(_STREAMS),
        )


class _Counter:
    def __init__(self, stack: Stack, client: redis.asyncio.Redis, session: aiohttp.ClientSession) -> None:
        self._stack = stack
        self._client = client
        self._session = session

    async def count(self, work: Callable[[], Awaitable[object]], among: int) -> RoundTrips:
        """What `work` costs, divided by `among`."""
        started = perf_counter()
        postgres, reads = await self._during(work)
        lasted = perf_counter() - started
        idle_postgres, idle_reads = await self._during(lambda: asyncio.sleep(lasted))
        return RoundTrips(postgres=(postgres - idle_postgres) / among, redis=(reads - idle_reads) / among)

    async def _during(self, work: Callable[[], Awaitable[object]]) -> tuple[int, int]:
        """Transactions and reads, those of the questions included."""
        before, reads = await transactions(self._stack, self._session), await self._reads()
        await work()
        reads = await self._reads() - reads
        return await transactions(self._stack, self._session) - before, reads

    async def _reads(self) -> int:
        return int((await self._client.info("stats"))["total_reads_processed"])
