"""Owners that die, stall or leave: another worker goes on with the same answer, and nobody sees a seam."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg
import pytest
from test_turns_over_http import LONG, ask, ended, messages, posted, session, text_of

from app_fixture import AppServer, app_environment, engine_environment, running_app
from engine_fixture import EngineServer


@dataclass(frozen=True)
class Pair:
    """Two workers over the same stores; `first` takes the turns, `second` is there for what comes."""

    first: AppServer
    second: AppServer


@pytest.fixture
def pair(
    app_database_url: str,
    redis_url: str,
    engine_server: EngineServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    environment = app_environment(folder, app_database_url, redis_url) | engine_environment(engine_server)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running_app(environment, folder / f"api-{number}.log")) for number in (1, 2)
        ]
        yield Pair(*servers)


@pytest.fixture
async def first(pair: Pair) -> AsyncIterator[aiohttp.ClientSession]:
    async with session(pair.first) as http:
        yield http


@pytest.fixture
async def second(pair: Pair) -> AsyncIterator[aiohttp.ClientSession]:
    async with session(pair.second) as http:
        yield http


class Seen:
    """What a client has been shown of a turn: its text, its last position, its chunks."""

    def __init__(self) -> None:
        self.text = ""
        self.positions: list[int] = []
        self.turn_id = ""
        self.last: dict[str, Any] = {}

    async def read(self, response: aiohttp.ClientResponse, until: int | None = None) -> None:
        """Read events, up to a number of characters in all or to the end of the stream."""
        async for line in response.content:
            if line.startswith(b"id: "):
                self.positions.append(int(line[4:]))
            elif line.startswith(b"data: {"):
                self.last = json.loads(line.removeprefix(b"data: "))
                self.turn_id = self.last.get("turn_id", self.turn_id)
                self.text += text_of(self.last)
                if until is not None and len(self.text) >= until:
                    return


async def begun(http: aiohttp.ClientSession, seen: Seen, **fields: Any) -> tuple[str, aiohttp.ClientResponse]:
    """A long turn whose first words have been shown, and the response that still streams."""
    conversation = str((await posted(http, "/v1/conversations", {}))["id"])
    body = ask(conversation, LONG, stream=True, **({"max_tokens": 60, "temperature": 0} | fields))
    response = await http.post("/v1/chat/completions", json=body)
    await seen.read(response, until=30)
    return conversation, response


async def test_a_killed_owners_answer_is_continued_by_another_worker(
    pair: Pair, first: aiohttp.ClientSession, second: aiohttp.ClientSession
) -> None:
    seen = Seen()
    conversation, response = await begun(first, seen)
    os.kill(pair.first.pid, signal.SIGKILL)
    with suppress(aiohttp.ClientError):
        await seen.read(response)
    path = f"/v1/turns/{seen.turn_id}/events"
    async with asyncio.timeout(60):
        async with second.get(path, headers={"last-event-id": str(seen.positions[-1])}) as resumed:
            await seen.read(resumed)
    assert seen.positions == list(range(1, len(seen.positions) + 1))
    stored = (await messages(second, conversation))[-1]
    assert (stored["content"], stored["status"]) == (seen.text, "complete")


async def test_an_owner_that_only_slept_is_harmless_when_it_wakes(
    pair: Pair, first: aiohttp.ClientSession, second: aiohttp.ClientSession
) -> None:
    seen, shown_by_second = Seen(), Seen()
    conversation, response = await begun(first, seen)
    os.kill(pair.first.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(60), second.get(f"/v1/turns/{seen.turn_id}/events") as followed:
            await shown_by_second.read(followed)
    finally:
        os.kill(pair.first.pid, signal.SIGCONT)
    async with asyncio.timeout(60):
        await seen.read(response)
    stored = (await messages(second, conversation))[-1]
    assert shown_by_second.text == seen.text == stored["content"]
    assert stored["status"] == "complete"
    assert shown_by_second.positions == list(range(1, len(shown_by_second.positions) + 1))


async def test_a_worker_that_is_told_to_stop_hands_its_turns_over(
    pair: Pair, first: aiohttp.ClientSession, second: aiohttp.ClientSession
) -> None:
    seen = Seen()
    conversation, response = await begun(first, seen)
    os.kill(pair.first.pid, signal.SIGTERM)
    turn = await ended(second, seen.turn_id)
    response.close()
    assert turn["status"] == "complete"
    stored = (await messages(second, conversation))[-1]
    assert stored["content"].startswith(seen.text)


async def test_a_worker_that_is_told_to_stop_lets_its_followers_go_and_they_go_on_elsewhere(
    pair: Pair, first: aiohttp.ClientSession, second: aiohttp.ClientSession
) -> None:
    asked, followed = Seen(), Seen()
    conversation, response = await begun(first, asked)
    events = await first.get(f"/v1/turns/{asked.turn_id}/events")
    live = await first.get("/v1/events")
    await followed.read(events, until=1)
    os.kill(pair.first.pid, signal.SIGTERM)
    async with asyncio.timeout(60):
        await live.read()  # whole to its end: a stream that is cut off raises
        await followed.read(events)
        resume = {"last-event-id": str(followed.positions[-1])}
        async with second.get(f"/v1/turns/{asked.turn_id}/events", headers=resume) as resumed:
            await followed.read(resumed)
    response.close()
    assert followed.positions == list(range(1, len(followed.positions) + 1))
    assert (await messages(second, conversation))[-1]["content"] == followed.text


async def test_a_turn_is_stopped_from_any_worker(
    first: aiohttp.ClientSession, second: aiohttp.ClientSession
) -> None:
    seen = Seen()
    conversation, response = await begun(first, seen, max_tokens=1500)
    await posted(second, f"/v1/turns/{seen.turn_id}/stop", None, status=202)
    async with asyncio.timeout(20):
        await seen.read(response)
    assert seen.last["status"] == "stopped"
    assert (await messages(second, conversation))[-1]["content"] == seen.text


async def test_the_bill_of_a_turn_with_two_owners_has_each_attempt_once(
    pair: Pair, first: aiohttp.ClientSession, second: aiohttp.ClientSession
) -> None:
    seen = Seen()
    _, response = await begun(first, seen)
    os.kill(pair.first.pid, signal.SIGKILL)
    response.close()
    turn = await ended(second, seen.turn_id)
    assert turn["usage"]["completion_tokens"] == 60
    database = await asyncpg.connect(pair.second.database_url)
    events = await database.fetch(
        "SELECT completion_tokens FROM usage_events WHERE turn_id = $1", seen.turn_id
    )
    await database.close()
    assert len(events) == 2
    assert sum(event["completion_tokens"] for event in events) == turn["usage"]["completion_tokens"]
