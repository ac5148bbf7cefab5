"""Following turns of other processes: few connections, nothing missed, and a Redis that dies meanwhile."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import redis.asyncio

from gateways import engine_call
from triplane.adapters.embedded.redis import EmbeddedRedis
from triplane.adapters.embedded.server_folder import running
from triplane.adapters.redis.connection import open_redis
from triplane.adapters.redis.log_reader import KEPT_ROWS, LogReader
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.adapters.redis.replay_log import RedisReplayLog
from triplane.domain.errors import StoreUnavailable
from triplane.domain.events import Delta, LogEntry, TurnEnded, Usage
from triplane.domain.ids import new_id
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.ports import HeldTurn

TENANT = new_id("tenant")
END_S = 30.0


class Worker:
    """A process's log and reader over a Redis of its own connections."""

    def __init__(self, url: str) -> None:
        self.redis = open_redis(url)
        self.reader = LogReader(self.redis)
        self.pipeline = RedisPipeline(url)
        self.log = RedisReplayLog(self.pipeline, self.reader)
        self._tasks = BackgroundTasks()
        self._tasks.start("reader", self.reader.run())

    async def aclose(self) -> None:
        await self._tasks.aclose(0)
        await self.redis.aclose()
        await self.pipeline.aclose()

    async def followed(self, turn_id: str, after: int = 0, begun: asyncio.Event | None = None) -> list[int]:
        """The positions of a turn to its end, however often its log is silent."""
        positions: list[int] = []
        async with asyncio.timeout(END_S):
            while True:
                last = positions[-1] if positions else after
                async for entry in self.log.follow(TENANT, turn_id, last):
                    positions.append(entry.position)
                    if begun:
                        begun.set()
                    if isinstance(entry.event, TurnEnded):
                        return positions


class Owned:
    """A turn that `worker` writes."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.held = HeldTurn(tenant_id=TENANT, turn_id=new_id("turn"), fence=1)
        self.position = 0
        worker.log.open(TENANT, self.held.turn_id)

    async def write(self, count: int) -> None:
        for _ in range(count):
            self.position += 1
            await self._append(LogEntry(position=self.position, event=Delta(text="word ")))

    async def end(self) -> None:
        self.position += 1
        ended = TurnEnded(status="complete", finish_reason="stop", usage=Usage())
        await self._append(LogEntry(position=self.position, event=ended))
        self.worker.log.close(TENANT, self.held.turn_id)

    async def _append(self, entry: LogEntry) -> None:
        try:
            assert await self.worker.log.append(self.held, [entry], ())
        except StoreUnavailable:
            self.worker.log.show(self.held, [entry])


@pytest.fixture
async def owner(redis_url: str) -> AsyncIterator[Worker]:
    worker = Worker(redis_url)
    yield worker
    await worker.aclose()


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Worker]:
    worker = Worker(redis_url)
    yield worker
    await worker.aclose()


async def test_200_remote_followers_of_20_turns_see_everything_over_few_connections(
    owner: Worker, other: Worker, redis_client: redis.asyncio.Redis
) -> None:
    turns = [Owned(owner) for _ in range(20)]
    await asyncio.gather(*(turn.write(5) for turn in turns))
    begun = [asyncio.Event() for _ in range(200)]
    following = [
        asyncio.create_task(other.followed(turns[place // 10].held.turn_id, place % 5, event))
        for place, event in enumerate(begun)
    ]
    await asyncio.gather(*(event.wait() for event in begun))
    await asyncio.gather(*(turn.write(30) for turn in turns))
    clients = await redis_client.client_list()
    await asyncio.gather(*(turn.end() for turn in turns))
    seen = await asyncio.gather(*following)
    assert all(positions == list(range(place % 5 + 1, 37)) for place, positions in enumerate(seen))
    assert len([client for client in clients if "b" in client["flags"]]) <= 1
    assert len(other.reader) == 0


async def test_a_follower_that_left_the_tail_behind_reads_on_from_redis(owner: Worker, other: Worker) -> None:
    turn = Owned(owner)
    await turn.write(1)
    slow = other.log.follow(TENANT, turn.held.turn_id, 0)
    assert (await anext(slow)).position == 1
    fast = asyncio.create_task(other.followed(turn.held.turn_id))
    entries = [LogEntry(position=place, event=Delta(text="w")) for place in range(2, KEPT_ROWS + 500)]
    for start in range(0, len(entries), 200):
        assert await owner.log.append(turn.held, entries[start : start + 200], ())
    turn.position = entries[-1].position
    await turn.end()
    expected = list(range(1, turn.position + 1))
    assert await fast == expected
    assert [1, *[entry.position async for entry in slow]] == expected


async def test_a_silent_log_ends_its_followers_so_that_they_ask_the_row(owner: Worker, other: Worker) -> None:
    turn = Owned(owner)
    await turn.write(2)
    async with asyncio.timeout(5):
        seen = [entry.position async for entry in other.log.follow(TENANT, turn.held.turn_id, 0)]
    assert seen == [1, 2]
    assert len(other.reader) == 0


async def test_redis_killed_and_restarted_empty_costs_nobody_an_entry(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path, settings={"appendonly": "no"})
    with (tmp_path / "redis.log").open("ab") as log:
        async with running(server, log):
            owner, other = Worker(server.url), Worker(server.url)
            turn = Owned(owner)
            await turn.write(10)
            local = asyncio.create_task(owner.followed(turn.held.turn_id))
            begun = asyncio.Event()
            remote = asyncio.create_task(other.followed(turn.held.turn_id, 0, begun))
            await begun.wait()
            os.kill((await owner.redis.info("server"))["process_id"], signal.SIGKILL)
        await turn.write(10)
        async with running(server, log):
            await turn.write(10)
            await turn.end()
            assert await local == list(range(1, 32))
            assert await remote == list(range(1, 32))
            assert await other.followed(turn.held.turn_id) == list(range(1, 32))
            await owner.aclose()
            await other.aclose()


async def test_a_new_owner_learns_the_engine_calls_of_each_owner_before_it(
    owner: Worker, other: Worker
) -> None:
    first = HeldTurn(tenant_id=TENANT, turn_id=new_id("turn"), fence=1)
    second, third = (msgspec.structs.replace(first, fence=fence) for fence in (2, 3))
    usage = Usage(prompt_tokens=9, completion_tokens=2, cached_tokens=4)
    calls = [
        engine_call(),
        engine_call(usage, attempt=2, route="cloud", replica="http://b", cost=2**40),
    ]
    word = Delta(text="word")
    await owner.log.append(first, [LogEntry(position=1, event=word)], calls[:1])
    await owner.log.append(first, [LogEntry(position=2, event=word)], calls)
    await owner.log.append(second, [LogEntry(position=3, event=word)], calls[:1])

    recovered = await other.log.take_over(third)

    assert [(each.fence, each.position, each.calls) for each in recovered.attempts] == [
        (1, 2, calls),
        (2, 3, calls[:1]),
    ]
    assert recovered.usage == usage
