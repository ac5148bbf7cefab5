"""Branches as a client makes them: edited, answered again, continued, and shown."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from test_turns_over_http import LONG, ask, chunks, ended, messages, posted, session, text_of

from app_fixture import AppServer


@pytest.fixture
async def http(app_server: AppServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with session(app_server) as made:
        yield made


@pytest.fixture
async def conversation(http: aiohttp.ClientSession) -> str:
    return str((await posted(http, "/v1/conversations", {}))["id"])


async def answer(http: aiohttp.ClientSession, conversation: str, text: str, **fields: Any) -> dict[str, Any]:
    body = ask(conversation, text, **({"max_tokens": 4, "temperature": 0} | fields))
    turn: dict[str, Any] = await posted(http, "/v1/chat/completions", body)
    return turn


async def got(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def active_path(http: aiohttp.ClientSession, conversation: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await got(http, f"/v1/conversations/{conversation}/messages?path=active"))[
        "data"
    ]
    return found


async def test_an_edited_question_is_a_sibling_and_the_active_path(
    http: aiohttp.ClientSession, conversation: str
) -> None:
    await answer(http, conversation, "One.")
    first = (await messages(http, conversation))[-1]
    await answer(http, conversation, "Two.")

    edited = await answer(http, conversation, "Two, edited.", parent_id=first["id"])

    rows = await messages(http, conversation)
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5, 6]
    shown = await active_path(http, conversation)
    assert [row["content"] for row in shown if row["role"] == "user"] == ["One.", "Two, edited."]
    assert (await got(http, f"/v1/conversations/{conversation}"))["active_leaf"] == edited["message_id"]


async def test_the_first_question_may_be_edited_too(http: aiohttp.ClientSession, conversation: str) -> None:
    await answer(http, conversation, "One.")

    await answer(http, conversation, "Another one.", parent_id=None)

    rows = await messages(http, conversation)
    assert [row["parent_id"] for row in rows if row["role"] == "user"] == [None, None]
    assert len(await active_path(http, conversation)) == 2


async def test_a_client_may_insist_on_what_it_has_seen(
    http: aiohttp.ClientSession, conversation: str
) -> None:
    seen = await answer(http, conversation, "One.", expected_parent=None)
    body = ask(conversation, "Two.", expected_parent=seen["message_id"], request_id=f"r-{conversation}")
    first = await posted(http, "/v1/chat/completions", body)

    refused = ask(conversation, "Three.", expected_parent=seen["message_id"])
    error = await posted(http, "/v1/chat/completions", refused, status=409)

    assert (error["error"]["code"], error["error"]["param"]) == ("conflict", "expected_parent")
    assert len(await messages(http, conversation)) == 4
    retried = await posted(http, "/v1/chat/completions", body)
    assert retried["turn_id"] == first["turn_id"]


async def test_another_answer_stands_beside_the_first_and_either_can_be_shown(
    http: aiohttp.ClientSession, conversation: str
) -> None:
    first = await answer(http, conversation, "Say hello.", max_tokens=6)
    body = {"max_tokens": 3, "request_id": f"again-{conversation}"}

    again = await posted(http, f"/v1/turns/{first['turn_id']}/regenerate", body)
    retried = await posted(http, f"/v1/turns/{first['turn_id']}/regenerate", body)

    assert retried["turn_id"] == again["turn_id"] != first["turn_id"]
    question, one, other = await messages(http, conversation)
    assert one["parent_id"] == other["parent_id"] == question["id"]
    assert again["usage"]["completion_tokens"] == 3
    assert again["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"]
    path = f"/v1/conversations/{conversation}"
    switched = await posted(http, path, {"active_leaf": one["id"]})
    assert switched["active_leaf"] == one["id"]
    assert [row["id"] for row in await active_path(http, conversation)] == [question["id"], one["id"]]
    await posted(http, path, {"active_leaf": question["id"]})
    assert (await got(http, path))["active_leaf"] == other["id"]
    await posted(http, path, {"active_leaf": "msg_" + "0" * 32}, status=404)


async def test_the_next_question_follows_the_branch_that_is_shown(
    http: aiohttp.ClientSession, conversation: str
) -> None:
    first = await answer(http, conversation, "Say hello.")
    await posted(http, f"/v1/turns/{first['turn_id']}/regenerate", {"stream": False})
    await posted(http, f"/v1/conversations/{conversation}", {"active_leaf": first["message_id"]})

    await answer(http, conversation, "And now?")

    asked = (await messages(http, conversation))[-2]
    assert asked["parent_id"] == first["message_id"]


async def test_an_answer_at_its_limit_goes_on_in_place(
    http: aiohttp.ClientSession, conversation: str
) -> None:
    whole = await answer(http, conversation, LONG, max_tokens=12)
    body = {"stream": True, "max_tokens": 8, "stream_options": {"include_usage": True}}
    shown, positions = "", []

    async with http.post(f"/v1/turns/{whole['turn_id']}/continue", json=body) as response:
        assert response.status == 200
        received = [chunk async for chunk in chunks(response)]
    shown = "".join(text_of(chunk) for chunk in received)

    assert received[0]["choices"][0]["delta"]["role"] == "assistant"
    assert received[-1]["usage"]["completion_tokens"] == 8
    _, row = await messages(http, conversation)
    assert row["id"] == whole["message_id"]
    assert (row["content"], row["status"]) == (whole["choices"][0]["message"]["content"] + shown, "complete")
    replayed = ""
    async with http.get(f"/v1/turns/{whole['turn_id']}/events") as response:
        async for line in response.content:
            if line.startswith(b"id: "):
                positions.append(int(line[4:]))
            elif line.startswith(b"data: {"):
                replayed += text_of(json.loads(line[6:]))
    assert replayed == row["content"]
    assert positions == list(range(1, len(positions) + 1))
    turn = await got(http, f"/v1/turns/{whole['turn_id']}")
    assert turn["usage"]["completion_tokens"] == 20


async def test_a_continued_answer_is_the_one_that_a_longer_limit_would_have_given(
    http: aiohttp.ClientSession, conversation: str
) -> None:
    whole = await answer(http, conversation, LONG, max_tokens=20)
    other = str((await posted(http, "/v1/conversations", {}))["id"])
    part = await answer(http, other, LONG, max_tokens=10)

    rest = await posted(http, f"/v1/turns/{part['turn_id']}/continue", {"max_tokens": 10})

    texts = [each["choices"][0]["message"]["content"] for each in (whole, part, rest)]
    assert texts[0] == texts[1] + texts[2]


async def test_a_stopped_answer_goes_on_and_what_runs_or_has_been_answered_does_not(
    http: aiohttp.ClientSession, conversation: str
) -> None:
    body = ask(conversation, LONG, stream=True, max_tokens=500, temperature=0)
    async with http.post("/v1/chat/completions", json=body) as response:
        stream = chunks(response)
        turn_id = (await anext(stream))["turn_id"]
        path = f"/v1/turns/{turn_id}/continue"
        await posted(http, path, {}, status=409)
        await posted(http, f"/v1/turns/{turn_id}/stop", None, status=202)
        async with asyncio.timeout(20):
            async for _ in stream:
                pass
    assert (await ended(http, turn_id))["status"] == "stopped"

    await posted(http, path, {"max_tokens": 4})

    assert (await got(http, f"/v1/turns/{turn_id}"))["finish_reason"] == "length"
    await answer(http, conversation, "Thanks.")
    error = await posted(http, path, {}, status=409)
    assert error["error"]["code"] == "conflict"


async def test_branches_of_others_are_not_there(http: aiohttp.ClientSession) -> None:
    unknown = "turn_" + "0" * 32
    await posted(http, f"/v1/turns/{unknown}/continue", {}, status=404)
    await posted(http, f"/v1/turns/{unknown}/regenerate", {}, status=404)
