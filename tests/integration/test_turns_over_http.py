"""Turns as a client lives them: stopped, hung up on, retried, in two tabs, with an engine that is down."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from app_fixture import AppServer, app_environment, engine_environment, running_app
from engine_fixture import EngineServer
from waiting import until

MODEL = "smollm2"
LONG = "Tell a very long story about a lighthouse keeper and the sea."


@pytest.fixture
async def http(app_server: AppServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with session(app_server) as made:
        yield made


def session(server: AppServer) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        server.url,
        headers={"authorization": f"Bearer {server.key}"},
        timeout=aiohttp.ClientTimeout(total=60),
    )


@pytest.fixture
async def conversation(http: aiohttp.ClientSession) -> str:
    return str((await posted(http, "/v1/conversations", {}))["id"])


async def posted(
    http: aiohttp.ClientSession,
    path: str,
    body: Any,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Any:
    async with http.post(path, json=body, headers=headers) as response:
        answer = await response.json()
        assert response.status == status, answer
        return answer


def ask(conversation: str | None, text: str = "Say hello.", **fields: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}
    return body | ({"conversation_id": conversation} if conversation else {})


async def chunks(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        if line.startswith(b"data: {"):
            yield json.loads(line.removeprefix(b"data: "))


def text_of(chunk: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", []))


async def messages(http: aiohttp.ClientSession, conversation: str) -> list[dict[str, Any]]:
    async with http.get(f"/v1/conversations/{conversation}/messages") as response:
        found: list[dict[str, Any]] = (await response.json())["data"]
        return found


async def ended(http: aiohttp.ClientSession, turn_id: str) -> dict[str, Any]:
    """The turn once it has ended: its event stream ends with it."""
    async with http.get(f"/v1/turns/{turn_id}/events") as response:
        await response.read()
    async with http.get(f"/v1/turns/{turn_id}") as response:
        turn: dict[str, Any] = await response.json()
        return turn


async def test_stopping_keeps_what_was_shown(http: aiohttp.ClientSession, conversation: str) -> None:
    shown, turn_id = "", ""
    body = ask(conversation, LONG, stream=True, max_tokens=1000)
    async with http.post("/v1/chat/completions", json=body) as response:
        async for chunk in chunks(response):
            turn_id = turn_id or chunk["turn_id"]
            shown += text_of(chunk)
            if len(shown) > 20 and chunk.get("status") is None:
                await posted(http, f"/v1/turns/{turn_id}/stop", None, status=202)
            last = chunk
    assert last["status"] == "stopped"
    stored = await messages(http, conversation)
    assert (stored[-1]["content"], stored[-1]["status"]) == (shown, "stopped")


async def test_a_turn_goes_on_when_its_client_hangs_up(
    http: aiohttp.ClientSession, conversation: str
) -> None:
    body = ask(conversation, LONG, stream=True, max_tokens=60)
    async with http.post("/v1/chat/completions", json=body) as response:
        turn_id = (await anext(chunks(response)))["turn_id"]
        response.close()
    turn = await ended(http, turn_id)
    assert turn["status"] == "complete"
    assert turn["usage"]["completion_tokens"] > 10
    assert (await messages(http, conversation))[-1]["status"] == "complete"


async def test_hanging_up_on_a_stateless_call_ends_the_engines_work_and_is_metered(
    http: aiohttp.ClientSession, app_server: AppServer, engine_server: EngineServer
) -> None:
    body = ask(None, LONG, stream=True, max_tokens=1500)
    headers = {"x-request-id": "hung-up-stateless"}
    async with http.post("/v1/chat/completions", json=body, headers=headers) as response:
        shown = [await anext(chunks(response)) for _ in range(4)]
        response.close()
    assert len(shown) == 4
    await until_idle(engine_server)
    (row,) = await app_server.usage_rows(headers["x-request-id"])
    assert 3 <= row["completion_tokens"] < 1500


async def until_idle(engine: EngineServer) -> None:
    """Until the engine itself says that no slot works."""
    headers = {"authorization": f"Bearer {engine.api_key}"}
    async with aiohttp.ClientSession(headers=headers) as direct:

        async def is_idle() -> bool:
            async with direct.get(engine.url.removesuffix("/v1") + "/slots") as response:
                return not any(slot["is_processing"] for slot in await response.json())

        await until(is_idle, within_s=30)


async def test_a_retry_is_the_same_turn_and_the_same_bill(
    http: aiohttp.ClientSession, conversation: str, app_server: AppServer
) -> None:
    body = ask(conversation, stream=False)
    first, second = await asyncio.gather(
        posted(http, "/v1/chat/completions", body, headers={"idempotency-key": f"k-{conversation}"}),
        posted(http, "/v1/chat/completions", body, headers={"idempotency-key": f"k-{conversation}"}),
    )
    third = await posted(http, "/v1/chat/completions", body, headers={"idempotency-key": f"k-{conversation}"})
    assert first == second == third
    assert [row["seq"] for row in await messages(http, conversation)] == [1, 2]
    database = await asyncpg.connect(app_server.database_url)
    count = await database.fetchval("SELECT count(*) FROM usage_events WHERE turn_id = $1", first["turn_id"])
    await database.close()
    assert count == 1


async def test_a_reused_key_with_another_question_is_refused(
    http: aiohttp.ClientSession, conversation: str
) -> None:
    key = {"idempotency-key": f"r-{conversation}"}
    await posted(http, "/v1/chat/completions", ask(conversation), headers=key)
    refused = await posted(http, "/v1/chat/completions", ask(conversation, "Other."), 422, headers=key)
    assert refused["error"]["code"] == "idempotency_key_reused"


async def test_two_tabs_at_once_get_seqs_without_a_gap(
    http: aiohttp.ClientSession, conversation: str
) -> None:
    asks = [posted(http, "/v1/chat/completions", ask(conversation, f"Number {n}?")) for n in range(4)]
    await asyncio.gather(*asks)
    rows = await messages(http, conversation)
    assert [row["seq"] for row in rows] == list(range(1, 9))
    assert {row["status"] for row in rows} == {"complete"}


async def test_the_model_remembers_what_was_said(http: aiohttp.ClientSession, conversation: str) -> None:
    await posted(http, "/v1/chat/completions", ask(conversation, "My name is Aurelia."))
    answer = await posted(http, "/v1/chat/completions", ask(conversation, "Say my name."))
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 10


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, 400, "messages[0].role"),
        ({"messages": [{"role": "system", "content": "Hi"}]}, 400, "messages"),
        ({"conversation_id": "conv_nonsense"}, 404, "conversation_id"),
        ({"messages": [{"role": "user", "content": "Hi", "name": "Ada"}]}, 400, "messages[0].name"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, 400, "messages"),
        ({"model": "nope"}, 404, "model"),
    ],
)
async def test_a_refused_turn_names_the_field_and_leaves_the_conversation_as_it_was(
    http: aiohttp.ClientSession, conversation: str, fields: dict[str, Any], status: int, param: str
) -> None:
    refused = await posted(http, "/v1/chat/completions", ask(conversation) | fields, status)
    assert refused["error"]["param"] == param
    assert await messages(http, conversation) == []


async def test_a_deleted_conversation_takes_no_turn(http: aiohttp.ClientSession, conversation: str) -> None:
    async with http.delete(f"/v1/conversations/{conversation}") as response:
        assert response.status == 200
    refused = await posted(http, "/v1/chat/completions", ask(conversation), 404)
    assert refused["error"]["type"] == "not_found_error"


async def test_an_engine_that_is_down_is_a_503_and_nothing_is_written(
    app_database_url: str, redis_url: str, engine_server: EngineServer, tmp_path: Path
) -> None:
    environment = app_environment(tmp_path, app_database_url, redis_url) | engine_environment(engine_server)
    environment["TRIPLANE_ENGINE_URL"] = "http://127.0.0.1:9/v1"
    with running_app(environment, tmp_path / "api.log", wait_path="/healthz") as server:
        async with session(server) as http:
            conversation = (await posted(http, "/v1/conversations", {}))["id"]
            for body in (
                ask(conversation),
                ask(conversation, stream=True),
                ask(None),
                ask(None, stream=True),
            ):
                refused = await posted(http, "/v1/chat/completions", body, 503)
                assert refused["error"]["code"] == "engine_unavailable"
            assert await messages(http, conversation) == []
            async with http.get("/readyz") as response:
                assert response.status == 503
                assert "engine" in (await response.json())["error"]["message"]
