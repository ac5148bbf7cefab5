"""What limits cost a request: CPU of this process for one reservation and its settlement, over a real Redis.

`.venv/bin/python -m bench.limits` prints a line for each number of requests at once.
"""

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio
import uvloop

from triplane.adapters.embedded.redis import EmbeddedRedis
from triplane.adapters.embedded.server_folder import running
from triplane.adapters.redis.buckets import RedisBuckets
from triplane.adapters.redis.connection import open_redis
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.completion import Flow
from triplane.domain.events import Usage
from triplane.domain.limits import DEFAULT_PLAN, LimitKind, Limits, Scope
from triplane.inference.buckets import LEASE_S
from triplane.inference.limit_policy import LimitPolicy, PlanLimits
from triplane.inference.limits import Limiter
from triplane.inference.shared_buckets import SharedBuckets

_REQUESTS = 8000
_AT_ONCE = (1, 8, 64)
_USAGE = Usage(prompt_tokens=20, completion_tokens=80)
_WIDE = 10**9

USUAL = PlanLimits(requests_per_minute=_WIDE, tokens_per_minute=_WIDE, concurrent=1000)
EVERYTHING = PlanLimits(
    requests_per_minute=_WIDE,
    tokens_per_minute=_WIDE,
    concurrent=1000,
    per_key=Limits(requests_per_minute=_WIDE, tokens_per_minute=_WIDE, concurrent=1000),
    per_organisation=Limits(requests_per_minute=_WIDE, tokens_per_minute=_WIDE, concurrent=1000),
    per_model=Limits(requests_per_minute=_WIDE, tokens_per_minute=_WIDE, concurrent=1000),
)


class _Nobody:
    def request_limited(self, scope: Scope, kind: LimitKind) -> None:
        raise AssertionError("the limits of this benchmark are wide")

    def limits_unshared(self, claims: int) -> None:
        raise AssertionError("Redis was too slow for this benchmark")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one request. `redis_us` is the CPU of the Redis server."""

    cpu_us: float
    redis_us: float
    added_ms: float


async def measure(
    redis: redis.asyncio.Redis, pipeline: RedisPipeline, plan: PlanLimits, at_once: int
) -> Cost:
    policy, nobody = LimitPolicy(plans={DEFAULT_PLAN: plan}), _Nobody()
    limiter = Limiter(SharedBuckets(RedisBuckets(pipeline, LEASE_S), nobody), policy, nobody)
    serving = asyncio.create_task(limiter.run())

    async def ask(place: int, times: int) -> None:
        flow = Flow(tenant="bench", user=f"user_{place}", plan=DEFAULT_PLAN, api_key=f"key_{place}")
        for _ in range(times):
            (await limiter.reserve(flow, "model", 1000)).settle(_USAGE)

    async def all_ask(times: int) -> None:
        await asyncio.gather(*(ask(place, times) for place in range(at_once)))

    await all_ask(max(1, 200 // at_once))
    times = _REQUESTS // at_once
    before, cpu, began = await _redis_cpu_s(redis), time.process_time(), time.perf_counter()
    await all_ask(times)
    lasted, cpu = time.perf_counter() - began, time.process_time() - cpu
    redis_cpu = await _redis_cpu_s(redis) - before
    serving.cancel()
    await asyncio.wait((serving,))
    count = times * at_once
    return Cost(cpu_us=cpu / count * 1e6, redis_us=redis_cpu / count * 1e6, added_ms=lasted / times * 1e3)


async def _redis_cpu_s(client: redis.asyncio.Redis) -> float:
    found = await client.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


async def report(url: str) -> None:
    client, pipeline = open_redis(url), RedisPipeline(url)
    for name, plan in (("user", USUAL), ("user, key, organisation, model", EVERYTHING)):
        for at_once in _AT_ONCE:
            cost = await measure(client, pipeline, plan, at_once)
            sys.stdout.write(
                f"{name}; {at_once} at once: {cost.cpu_us:.0f} µs here, {cost.redis_us:.0f} µs in Redis, "
                f"{cost.added_ms:.2f} ms\n"
            )
    await pipeline.aclose()
    await client.aclose()


async def run(folder: Path) -> None:
    """Redis from a loop that can start it so; the measurement in one such as the API has."""
    server = EmbeddedRedis(folder)
    async with running(server):
        await asyncio.to_thread(uvloop.run, report(server.url))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(run(Path(temporary)))
