"""Turns in the background, the list of those that run, and the stream of what changes, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import redis.asyncio

from served_app import Served
from servers import add_user
from triplane.adapters.postgres.pool import Database
from turn_fakes import ScriptedGateway
from waiting import until


@pytest.fixture
async def client(bff: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with bff.client() as made:
        yield made


@pytest.fixture
def held(bff: Served) -> asyncio.Event:
    """The engine's first token waits for this."""
    assert isinstance(bff.http_app.gateway, ScriptedGateway)
    go_on = asyncio.Event()
    bff.http_app.gateway.waits[1] = go_on
    return go_on


def body(conversation: str | None, **fields: Any) -> dict[str, Any]:
    asked = {"model": "model", "messages": [{"role": "user", "content": "Say hello."}], **fields}
    return asked | ({"conversation_id": conversation} if conversation else {})


async def begun(client: httpx.AsyncClient, conversation: str | None = None, **fields: Any) -> dict[str, Any]:
    """A turn in the background, of a new conversation unless one is given."""
    conversation = conversation or (await client.post("/v1/conversations", json={})).json()["id"]
    answer = await client.post("/v1/chat/completions", json=body(conversation, background=True, **fields))
    assert answer.status_code == 202, answer.text
    turn: dict[str, Any] = answer.json()
    return turn


async def listed(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/v1/turns", params={"state": "running", **query})
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


class Device:
    """An open event stream."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.last_event_id = ""

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            async for line in self._lines:
                if line.startswith("id: "):
                    self.last_event_id = line[4:]
                elif line.startswith("data: "):
                    event: dict[str, Any] = json.loads(line[6:])
                    return event
        raise AssertionError("the stream has ended")

    async def rest(self) -> AsyncIterator[dict[str, Any]]:
        """What comes until the stream has ended whole."""
        async for line in self._lines:
            if line.startswith("data: "):
                yield json.loads(line[6:])

    async def position(self) -> None:
        """Read where the stream begins."""
        async with asyncio.timeout(10):
            self.last_event_id = (await anext(self._lines)).removeprefix("id: ")


@asynccontextmanager
async def device(client: httpx.AsyncClient, last_event_id: str | None = None) -> AsyncIterator[Device]:
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    async with client.stream("GET", "/v1/events", headers=headers) as response:
        assert response.status_code == 200
        yield Device(response.aiter_lines())


async def test_a_turn_in_the_background_is_answered_at_once_listed_and_followed_later(
    client: httpx.AsyncClient, held: asyncio.Event
) -> None:
    turn = await begun(client)
    assert (turn["object"], turn["status"]) == ("turn", "streaming")
    assert [each["id"] for each in (await listed(client))["data"]] == [turn["id"]]
    held.set()
    events = await client.get(f"/v1/turns/{turn['id']}/events")
    assert '"content":"Hello"' in events.text
    assert (await listed(client))["data"] == []
    assert (await client.get(f"/v1/turns/{turn['id']}")).json()["status"] == "complete"


async def test_a_retry_may_be_delivered_in_another_way(
    client: httpx.AsyncClient, held: asyncio.Event
) -> None:
    turn = await begun(client, request_id="the same")
    held.set()
    asked = body(turn["conversation_id"], request_id="the same")
    whole = (await client.post("/v1/chat/completions", json=asked)).json()
    assert (whole["turn_id"], whole["choices"][0]["message"]["content"]) == (turn["id"], "Hello")


@pytest.mark.parametrize(("fields", "conversation"), [({"stream": True}, "conv"), ({}, None)])
async def test_background_is_refused_by_name_where_it_means_nothing(
    client: httpx.AsyncClient, fields: dict[str, Any], conversation: str | None
) -> None:
    if conversation:
        conversation = (await client.post("/v1/conversations", json={})).json()["id"]
    answer = await client.post("/v1/chat/completions", json=body(conversation, background=True, **fields))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "background")


async def test_running_turns_are_paged_newest_first_and_by_conversation(
    client: httpx.AsyncClient, held: asyncio.Event
) -> None:
    turns = [await begun(client) for _ in range(3)]
    newest_first = [turn["id"] for turn in reversed(turns)]
    page = await listed(client, limit=2)
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (newest_first[:2], True)
    rest = await listed(client, after=page["last_id"])
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (newest_first[2:], False)
    of_one = await listed(client, conversation_id=turns[1]["conversation_id"])
    assert [each["id"] for each in of_one["data"]] == [turns[1]["id"]]
    held.set()


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"state": "ended"},
        {"state": "running", "after": "x"},
        {"state": "running", "conversation_id": "x"},
    ],
)
async def test_a_list_of_turns_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, query: dict[str, str]
) -> None:
    assert (await client.get("/v1/turns", params=query)).status_code == 400


async def test_each_device_is_told_of_conversations_and_turns(
    client: httpx.AsyncClient, held: asyncio.Event
) -> None:
    async with device(client) as one, device(client) as two:
        turn = await begun(client)
        held.set()
        conversation = turn["conversation_id"]
        for each in (one, two):
            assert await each.next() == {"type": "conversation.created", "conversation_id": conversation}
            started = await each.next()
            assert (started["type"], started["turn_id"]) == ("turn.started", turn["id"])
            assert started["title"] == "Say hello."
            ended = {"type": "turn.ended", "conversation_id": conversation, "turn_id": turn["id"]}
            assert await each.next() == ended | {"status": "complete"}
        await client.patch(f"/v1/conversations/{conversation}", json={"title": "Named"})
        await client.delete(f"/v1/conversations/{conversation}")
        assert (await one.next())["title"] == "Named"
        assert (await one.next())["type"] == "conversation.deleted"


async def test_a_device_resumes_behind_what_it_has_seen_even_if_that_was_nothing(
    client: httpx.AsyncClient, redis_client: redis.asyncio.Redis
) -> None:
    async def is_announced() -> bool:
        return bool(await redis_client.keys("announcements:*"))

    await client.post("/v1/conversations", json={})
    await until(is_announced)
    async with device(client) as early:
        await early.position()
    second = (await client.post("/v1/conversations", json={})).json()["id"]
    async with device(client, early.last_event_id) as late:
        told = await late.next()
    assert told["conversation_id"] == second
    async with device(client, late.last_event_id) as later:
        third = (await client.post("/v1/conversations", json={})).json()["id"]
        told_later = [(await later.next())["conversation_id"]]
        while told_later[-1] != third:
            told_later.append((await later.next())["conversation_id"])
    assert [told["conversation_id"], *told_later][-2:] == [second, third]


async def test_a_device_that_missed_too_much_is_told_to_fetch_anew(client: httpx.AsyncClient) -> None:
    async with device(client, "1-0") as returned:
        assert await returned.next() == {"type": "reset"}
        created = (await client.post("/v1/conversations", json={})).json()["id"]
        assert (await returned.next())["conversation_id"] == created


async def test_nobody_elses_turns_are_listed(
    bff: Served, client: httpx.AsyncClient, held: asyncio.Event, database: Database
) -> None:
    turn = await begun(client)
    stranger = await add_user(database)
    _, key = await bff.http_app.api_keys.create(stranger, "stranger")
    async with httpx.AsyncClient(base_url=bff.url, headers={"authorization": f"Bearer {key}"}) as other:
        assert (await listed(other))["data"] == []
        assert (await listed(other, conversation_id=turn["conversation_id"]))["data"] == []
        missing = await other.get("/v1/turns", params={"state": "running", "after": turn["id"]})
        assert missing.status_code == 404
    held.set()


async def test_who_follows_is_let_go_when_the_process_leaves_and_goes_on_elsewhere(
    bff: Served, client: httpx.AsyncClient, held: asyncio.Event
) -> None:
    turn = await begun(client)
    async with device(client) as live, client.stream("GET", f"/v1/turns/{turn['id']}/events") as followed:
        await live.position()
        bff.leaving.set_result(None)
        async with asyncio.timeout(10):
            rest = [line async for line in followed.aiter_lines()]
            told = [event async for event in live.rest()]
    held.set()
    assert [event["type"] for event in told] in ([], ["turn.started"])
    assert not any("[DONE]" in line for line in rest)
