"""Limits that several processes share over one Redis, also when a process or Redis is killed."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio
from structlog.testing import capture_logs

from limit_examples import FLOW, Counted, per_user
from triplane.adapters.embedded.redis import EmbeddedRedis
from triplane.adapters.embedded.server_folder import running
from triplane.adapters.redis.buckets import RedisBuckets
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.errors import RateLimited
from triplane.domain.events import Usage
from triplane.inference.limit_policy import LimitPolicy
from triplane.inference.limits import Limiter, Reservation
from triplane.inference.shared_buckets import SharedBuckets
from waiting import until

LEASE_S = 0.6
NewLimiter = Callable[[LimitPolicy], Awaitable[Limiter]]


class Worker:
    """What one API process has: its own connection and its own limiter, which runs."""

    def __init__(self, client: RedisPipeline, policy: LimitPolicy) -> None:
        self.counted = Counted()
        self.buckets = SharedBuckets(RedisBuckets(client, LEASE_S), self.counted)
        self.limiter = Limiter(self.buckets, policy, self.counted, renew_every_s=LEASE_S / 3)

    async def reserve(self, tokens: int = 0) -> Reservation:
        return await self.limiter.reserve(FLOW, "model", tokens)

    async def granted(self, tokens: int = 0) -> Reservation | None:
        try:
            return await self.reserve(tokens)
        except RateLimited:
            return None


@asynccontextmanager
async def worker(url: str, policy: LimitPolicy) -> AsyncIterator[Worker]:
    client = RedisPipeline(url)
    made = Worker(client, policy)
    task = asyncio.create_task(made.limiter.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await client.aclose()


@pytest.fixture
async def workers(
    redis_url: str, redis_client: redis.asyncio.Redis
) -> AsyncIterator[Callable[[LimitPolicy], Awaitable[list[Worker]]]]:
    async with AsyncExitStack() as stack:

        async def two(policy: LimitPolicy) -> list[Worker]:
            return [await stack.enter_async_context(worker(redis_url, policy)) for _ in range(2)]

        yield two


TwoWorkers = Callable[[LimitPolicy], Awaitable[list[Worker]]]


async def test_two_workers_together_grant_no_more_than_the_limit(workers: TwoWorkers) -> None:
    pair = await workers(per_user(requests=30, tokens=1000, concurrent=25))
    asked = await asyncio.gather(*(pair[place % 2].granted(50) for place in range(60)))
    assert len([each for each in asked if each]) == 20  # by their tokens
    for each in asked:
        if each:
            each.refund()
    await asyncio.gather(*(each.limiter.drain(5) for each in pair))
    asked = await asyncio.gather(*(pair[place % 2].granted(10) for place in range(60)))
    assert len([each for each in asked if each]) == 25  # by their slots


async def test_what_one_worker_settles_another_may_use(workers: TwoWorkers) -> None:
    one, other = await workers(per_user(tokens=1000))
    reservation = await one.reserve(1000)
    assert not await other.granted(500)
    reservation.settle(Usage(completion_tokens=400))
    await one.limiter.drain(5)
    assert await other.granted(500)
    assert not await other.granted(500)


async def test_waiting_as_long_as_was_said_is_enough_by_rediss_own_clock(workers: TwoWorkers) -> None:
    one, other = await workers(per_user(requests=600, burst_s=0.1))
    for _ in range(5):
        await one.reserve()
        with pytest.raises(RateLimited) as refusal:
            await other.reserve()
        assert 0 < refusal.value.retry_after_s <= 0.11
        await asyncio.sleep(refusal.value.retry_after_s)


async def test_the_next_request_finds_the_slot_that_the_last_one_left(workers: TwoWorkers) -> None:
    one, _ = await workers(per_user(concurrent=1))
    for _ in range(50):
        (await one.reserve()).settle(Usage())


HOLDER = """
import asyncio, sys
from limit_examples import FLOW, per_user
from test_shared_limits import worker

async def main():
    async with worker(sys.argv[1], per_user(concurrent=1)) as me:
        held = await me.reserve()
        print("holding", flush=True)
        await asyncio.sleep(60)
        held.refund()

asyncio.run(main())
"""


async def test_the_slot_of_a_process_that_was_killed_comes_back(redis_url: str, workers: TwoWorkers) -> None:
    one, _ = await workers(per_user(concurrent=1))
    path = f"{Path(__file__).parents[1]}:{Path(__file__).parent}"
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, redis_url, env={"PYTHONPATH": path}, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout
    try:
        async with asyncio.timeout(30):
            assert await holder.stdout.readline() == b"holding\n"
        for _ in range(4):  # longer than a lease: the holder renews
            assert not await one.granted()
            await asyncio.sleep(LEASE_S / 2)
    finally:
        holder.kill()
        await holder.wait()

    async def is_free() -> bool:
        return await one.granted() is not None

    await until(is_free)


async def test_without_redis_each_process_counts_alone_and_afterwards_together_again(tmp_path: Path) -> None:
    """Redis dies while requests come, and returns empty: none fails, each process keeps the limit."""
    server = EmbeddedRedis(tmp_path, settings={"appendonly": "no", "save": ""})
    policy = per_user(requests=10, concurrent=8)
    async with AsyncExitStack() as stack:
        pair = [await stack.enter_async_context(worker(server.url, policy)) for _ in range(2)]
        with capture_logs() as logs:
            async with running(server):
                before = [await each.reserve() for each in pair]
                assert [each.counted.unshared for each in pair] == [0, 0]
            async with asyncio.timeout(10):
                alone = [[await each.granted() for _ in range(12)] for each in pair]
            assert [len([one for one in granted if one]) for granted in alone] == [8, 8]
            assert [each.counted.unshared for each in pair] == [12, 12]
            for reservation in (*before, *(one for granted in alone for one in granted if one)):
                reservation.settle(Usage())
        assert [log["event"] for log in logs].count("limits not shared") == 2
        async with running(server):
            async with asyncio.timeout(30):
                for each in pair:
                    counted = -1
                    while counted != each.counted.unshared:
                        counted = each.counted.unshared
                        if held := await each.granted():
                            held.refund()
                        await asyncio.sleep(0.05)
            await asyncio.gather(*(each.limiter.drain(5) for each in pair))
            together = await asyncio.gather(*(pair[place % 2].granted() for place in range(20)))
            assert len([one for one in together if one]) == 8


async def test_a_redis_that_hangs_delays_a_chat_by_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    silent = await asyncio.start_unix_server(swallow, tmp_path / "redis.sock")
    async with silent, worker(f"unix://{tmp_path}/redis.sock", per_user(requests=1)) as me:
        async with asyncio.timeout(5):
            assert await me.granted()
            assert not await me.granted()
        assert me.counted.unshared == 2
