"""The hot window in a real Redis: what it keeps, and what happens without it."""

from datetime import UTC, datetime
from pathlib import Path

import redis.asyncio
from structlog.testing import capture_logs

from triplane.adapters.redis.hot_window import RedisHotWindow
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.completion import FunctionCall, TextPart, ToolCall
from triplane.domain.conversation import StoredMessage
from triplane.orchestration.history_ports import Window

NOW = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
WINDOW = Window(
    leaf_id="msg_2",
    messages=[
        StoredMessage(
            id="msg_1",
            seq=1,
            role="user",
            content=[TextPart(text="a\0b ü")],
            status="complete",
            created_at=NOW,
            token_count=4,
        ),
        StoredMessage(
            id="msg_2",
            seq=2,
            role="assistant",
            content=None,
            status="complete",
            created_at=NOW,
            parent_id="msg_1",
            tool_calls=[ToolCall(id="call_1", function=FunctionCall(name="f", arguments="{}"))],
        ),
    ],
)


async def test_a_window_comes_back_as_it_was_put(redis_pipeline: RedisPipeline) -> None:
    hot = RedisHotWindow(redis_pipeline)
    assert await hot.get("tenant_1", "conv_1") is None

    hot.put("tenant_1", "conv_1", WINDOW)

    assert await hot.get("tenant_1", "conv_1") == WINDOW
    assert await hot.get("tenant_2", "conv_1") is None, "a window is its tenant's alone"
    await hot.drop("tenant_1", "conv_1")
    assert await hot.get("tenant_1", "conv_1") is None


async def test_a_window_is_kept_for_a_day(
    redis_client: redis.asyncio.Redis, redis_pipeline: RedisPipeline
) -> None:
    RedisHotWindow(redis_pipeline).put("tenant_1", "conv_1", WINDOW)
    await redis_pipeline.send("PING")

    (key,) = await redis_client.keys()
    assert 86_000 < await redis_client.ttl(key) <= 86_400


async def test_a_window_of_another_version_is_as_none(
    redis_client: redis.asyncio.Redis, redis_pipeline: RedisPipeline
) -> None:
    hot = RedisHotWindow(redis_pipeline)
    hot.put("tenant_1", "conv_1", WINDOW)
    await redis_pipeline.send("PING")
    (key,) = await redis_client.keys()
    await redis_client.set(key, b"\x81\xa5other\x01")

    assert await hot.get("tenant_1", "conv_1") is None


async def test_without_redis_it_answers_as_if_empty_and_says_so_once(tmp_path: Path) -> None:
    client = RedisPipeline(f"unix://{tmp_path}/nobody.sock")
    hot = RedisHotWindow(client)

    with capture_logs() as logs:
        hot.put("tenant_1", "conv_1", WINDOW)
        assert await hot.get("tenant_1", "conv_1") is None
        await hot.drop("tenant_1", "conv_1")

    await client.aclose()
    assert [(each["event"], each["conversation_id"]) for each in logs] == [
        ("hot window unreachable", "conv_1")
    ]
