"""Announcements and stop signals between processes, over a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from triplane.adapters.embedded.redis import EmbeddedRedis
from triplane.adapters.embedded.server_folder import running
from triplane.adapters.redis.announcements import KEPT, RedisAnnouncements, RedisAnnouncer
from triplane.adapters.redis.connection import open_redis
from triplane.adapters.redis.log_reader import LogReader
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.adapters.redis.signals import RedisStopSignals
from triplane.domain.announcements import Announced, Announcement
from triplane.domain.conversation import Principal
from triplane.domain.ids import new_id
from triplane.orchestration.announcing import announce_conversation
from triplane.orchestration.background import BackgroundTasks

ME = Principal(tenant_id=new_id("tenant"), user_id=new_id("user"))
STRANGER = Principal(tenant_id=new_id("tenant"), user_id=ME.user_id)


class Devices:
    """What announces to a user's devices, and what these read."""

    def __init__(self, client: redis.asyncio.Redis, pipeline: RedisPipeline) -> None:
        reader = LogReader(client)
        self.pipeline = pipeline
        self.announcer = RedisAnnouncer(pipeline)
        self.announcements = RedisAnnouncements(client, reader)
        self.tasks = BackgroundTasks()
        self.tasks.start("reader", reader.run())

    async def changed(self, *conversations: str, who: Principal = ME) -> None:
        for conversation in conversations:
            announce_conversation(self.announcer, who, "conversation.updated", conversation)
        await self.pipeline.send("PING")

    async def read(self, place: str, count: int, who: Principal = ME) -> list[Announced]:
        """The next announcements behind a place."""
        found: list[Announced] = []
        following = self.announcements.follow(who, place)
        async with asyncio.timeout(10):
            async for each in following:
                found += [each] if each else []
                if len(found) == count:
                    break
        await following.aclose()
        return found


@pytest.fixture
async def devices(redis_client: redis.asyncio.Redis, redis_pipeline: RedisPipeline) -> AsyncIterator[Devices]:
    made = Devices(redis_client, redis_pipeline)
    yield made
    await made.tasks.aclose(0)


def names(announced: list[Announced]) -> list[str | None]:
    return [each.announcement.conversation_id for each in announced]


async def test_a_device_is_told_what_changes_from_now_on_and_resumes_behind_it(
    devices: Devices,
) -> None:
    await devices.changed("before")
    start = await devices.announcements.resume(ME, None)
    first = asyncio.create_task(devices.read(start.place, 2))
    await devices.changed("one", "two", "three")
    seen = await first
    assert names(seen) == ["one", "two"]
    again = await devices.announcements.resume(ME, seen[-1].place)
    assert not again.has_missed
    assert names(await devices.read(again.place, 1)) == ["three"]


async def test_a_device_that_was_away_for_too_long_is_told_to_fetch_anew(devices: Devices) -> None:
    await devices.changed("first")
    place = (await devices.announcements.resume(ME, None)).place
    for _ in range(3):
        await devices.changed(*(f"later {number}" for number in range(KEPT - 1)))
    resumed = await devices.announcements.resume(ME, place)
    assert resumed.has_missed
    await devices.changed("newest")
    assert names(await devices.read(resumed.place, 1)) == ["newest"]


@pytest.mark.parametrize("place", ["nonsense", "1-x", "-", "9" * 50, "-1-2", f"{2**64}-0"])
async def test_a_place_that_never_was_is_one_that_was_lost(devices: Devices, place: str) -> None:
    await devices.changed("one")
    assert (await devices.announcements.resume(ME, place)).has_missed


async def test_another_tenants_user_of_the_same_id_is_told_nothing(devices: Devices) -> None:
    await devices.changed("mine")
    await devices.changed("theirs", who=STRANGER)
    assert names(await devices.read("0-0", 1)) == ["mine"]
    assert names(await devices.read("0-0", 1, STRANGER)) == ["theirs"]


async def test_without_redis_announcing_neither_waits_nor_fails(tmp_path: Path) -> None:
    client = RedisPipeline(f"unix://{tmp_path}/none")
    announcer = RedisAnnouncer(client)
    for _ in range(2000):
        announcer.announce(
            ME.tenant_id, ME.user_id, Announcement(type="turn.started", conversation_id=new_id("conv"))
        )
    await client.aclose()


async def test_a_stop_signal_reaches_every_process_also_after_redis_was_restarted(tmp_path: Path) -> None:
    server, heard = EmbeddedRedis(tmp_path), asyncio.Queue[str]()
    client, tasks = open_redis(server.url), BackgroundTasks()
    signals = RedisStopSignals(client, heard.put_nowait)
    async with running(server), asyncio.timeout(10):
        tasks.start("signals", signals.run())
        await signals.listening.wait()
        await signals.send("turn_1")
        assert await heard.get() == "turn_1"
    await signals.send("lost")
    async with running(server), asyncio.timeout(10):
        again = asyncio.create_task(heard.get())
        while not again.done():
            await signals.send("turn_2")
            await asyncio.wait((again,), timeout=0.1)
        assert again.result() == "turn_2"
        await tasks.aclose(0)
        await client.aclose()
