"""The one connection to Redis that turns use: order, round trips, refusals, and a Redis that goes away."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from triplane.adapters.embedded.redis import EmbeddedRedis
from triplane.adapters.embedded.server_folder import running
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.adapters.redis.scripts import Script


async def test_answers_come_in_the_order_of_the_commands(redis_pipeline: RedisPipeline) -> None:
    answers = [redis_pipeline.send("RPUSH", "list", number) for number in range(500)]
    assert await asyncio.gather(*answers) == list(range(1, 501))
    assert await redis_pipeline.send("LRANGE", "list", 0, 2) == [b"0", b"1", b"2"]
    assert await redis_pipeline.send("GET", "nothing") is None


async def test_one_connection_serves_one_command_after_another(
    redis_client: redis.asyncio.Redis, redis_pipeline: RedisPipeline
) -> None:
    await redis_pipeline.send("PING")
    before = (await redis_client.info("stats"))["total_connections_received"]
    for _ in range(5):
        await redis_pipeline.send("PING")
    assert (await redis_client.info("stats"))["total_connections_received"] == before


async def test_what_is_sent_in_one_moment_is_one_round_trip(
    redis_client: redis.asyncio.Redis, redis_pipeline: RedisPipeline
) -> None:
    await redis_pipeline.send("PING")

    async def reads() -> int:
        return int((await redis_client.info("stats"))["total_reads_processed"])

    asking_costs = -await reads() + await reads()
    before = await reads()
    redis_pipeline.post("SET", "a", "1")
    await asyncio.gather(redis_pipeline.send("INCR", "a"), redis_pipeline.send("INCR", "a"))
    assert await reads() - before - asking_costs == 1
    assert await redis_pipeline.send("GET", "a") == b"3"


async def test_a_refusal_is_told_to_its_own_caller_alone(redis_pipeline: RedisPipeline) -> None:
    first, wrong, last = (
        redis_pipeline.send(*words) for words in (("SET", "a", "x"), ("INCR", "a"), ("PING",))
    )
    assert await first == b"OK"
    with pytest.raises(ResponseError):
        await wrong
    assert await last == b"PONG"


async def test_a_caller_that_leaves_takes_no_other_callers_answer(redis_pipeline: RedisPipeline) -> None:
    await redis_pipeline.send("MSET", "a", "1", "b", "2")
    left, stayed = redis_pipeline.send("GET", "a"), redis_pipeline.send("GET", "b")
    left.cancel()
    assert await stayed == b"2"


async def test_a_script_runs_also_where_redis_does_not_know_it_yet(redis_pipeline: RedisPipeline) -> None:
    script = Script("return {KEYS[1], ARGV[1]}")
    await redis_pipeline.send("SCRIPT", "FLUSH")
    for _ in range(2):
        assert await redis_pipeline.run(script, ["k"], [7]) == [b"k", b"7"]


async def test_a_redis_that_starts_again_is_waited_for(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    pipeline = RedisPipeline(server.url)
    async with running(server):
        await pipeline.send("SET", "a", "1")
    meanwhile = pipeline.send("GET", "a")
    async with running(server):
        assert await asyncio.wait_for(meanwhile, 10) == b"1"
        await pipeline.aclose()


async def test_a_redis_that_is_away_is_told_of_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triplane.adapters.redis.pipeline.PATIENCE_S", 0.0)
    pipeline = RedisPipeline(f"unix://{tmp_path}/nobody.sock")
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            await asyncio.wait_for(pipeline.send("PING"), 1)
    await pipeline.aclose()


async def test_a_redis_that_hangs_costs_its_connection_and_no_more(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    pipeline = RedisPipeline(server.url, answer_timeout_s=0.3)
    async with running(server):
        await pipeline.send("PING")
        found = await pipeline.send("INFO", "server")
        process = next(int(line[11:]) for line in found.splitlines() if line.startswith(b"process_id:"))
        os.kill(process, signal.SIGSTOP)
        try:
            with pytest.raises(RedisTimeoutError):
                await asyncio.wait_for(pipeline.send("PING"), 5)
        finally:
            os.kill(process, signal.SIGCONT)
        assert await asyncio.wait_for(pipeline.send("PING"), 5) == b"PONG"
        await pipeline.aclose()


async def test_closing_writes_what_is_on_its_way(redis_url: str, redis_client: redis.asyncio.Redis) -> None:
    pipeline = RedisPipeline(redis_url)
    pipeline.post("SET", "a", "1")
    await pipeline.aclose()
    assert await redis_client.get("a") == b"1"
    with pytest.raises(RedisConnectionError):
        await pipeline.send("PING")
