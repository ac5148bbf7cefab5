"""A conversation that outgrows the model, with the real engine and job worker: reuse, summary, cut."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from app_fixture import AppServer, running_app
from waiting import until

PATIENCE_S = 60.0
FACTS = " ".join(f"Ann lit lamp {n} of the lighthouse." for n in range(7))
CONTEXT = 512


@pytest.fixture
def app_of_small_context(app_server: AppServer, tmp_path: Path) -> Iterator[AppServer]:
    """API and job worker whose model takes a few hundred tokens: conversations are soon too long."""
    environment = {**app_server.environment, "TRIPLANE_ENGINE_CONTEXT": str(CONTEXT)}
    with (
        running_app(environment, tmp_path / "api.log") as server,
        (tmp_path / "worker.log").open("wb") as log,
    ):
        process = subprocess.Popen(
            (sys.executable, "-m", "triplane.cli", "worker"), env=environment, stdout=log, stderr=log
        )
        yield server
        process.terminate()
        process.wait(20)


def session(server: AppServer) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        server.url,
        headers={"authorization": f"Bearer {server.key}"},
        timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
    )


async def answered(http: aiohttp.ClientSession, conversation_id: str, text: str) -> dict[str, Any]:
    """The usage of one turn."""
    body = {
        "model": "smollm2",
        "conversation_id": conversation_id,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 6,
        "temperature": 0,
    }
    async with http.post("/v1/chat/completions", json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
        usage: dict[str, Any] = answer["usage"]
        return usage


async def new_conversation(http: aiohttp.ClientSession) -> str:
    async with http.post("/v1/conversations", json={"title": "The lighthouse"}) as response:
        return str((await response.json())["id"])


def reused(usage: dict[str, Any]) -> int:
    return int(usage["prompt_tokens_details"]["cached_tokens"])


async def summaries_are_made(connection: asyncpg.Connection, conversation_id: str) -> None:
    waiting = (
        "SELECT count(*) FROM pgqueuer WHERE entrypoint = 'summarise'"
        " AND convert_from(payload, 'UTF8')::json ->> 'conversation_id' = $1"
    )

    async def are_made() -> bool:
        return not await connection.fetchval(waiting, conversation_id)

    await until(are_made, PATIENCE_S)


async def test_four_turns_compute_only_what_is_new(app_server: AppServer) -> None:
    async with session(app_server) as http:
        conversation_id = await new_conversation(http)
        usages = [await answered(http, conversation_id, f"{n}. Is it so?") for n in range(4)]
    for before, after in pairwise(usages):
        assert reused(after) >= before["prompt_tokens"] - 1
        assert after["prompt_tokens"] - reused(after) < usages[0]["prompt_tokens"]


async def test_a_conversation_that_outgrows_the_model_is_summarised(app_of_small_context: AppServer) -> None:
    async with session(app_of_small_context) as http:
        await _outgrow(http, await asyncpg.connect(app_of_small_context.database_url))


async def _outgrow(http: aiohttp.ClientSession, connection: asyncpg.Connection) -> None:
    conversation_id = await new_conversation(http)
    usages: list[dict[str, Any]] = []
    summary: dict[str, Any] | None = None
    while summary is None and len(usages) < 9:
        usages.append(await answered(http, conversation_id, f"{FACTS} That was part {len(usages)}."))
        await summaries_are_made(connection, conversation_id)
        async with http.get(f"/v1/conversations/{conversation_id}/summary") as response:
            summary = await response.json() if response.status == 200 else None
    after_the_cut = await answered(http, conversation_id, "Who lit the lamps?")
    metered = await connection.fetchval(
        "SELECT count(*) FROM usage_events WHERE conversation_id = $1 AND turn_id IS NULL", conversation_id
    )
    await connection.close()

    assert summary
    assert set(summary) == {"object", "text", "upto_seq", "created_at"}
    assert summary["object"] == "conversation.summary"
    assert summary["text"].strip()
    assert 1 <= summary["upto_seq"] < 2 * len(usages)
    assert metered >= 1
    *grown, cut = usages
    for before, after in pairwise(grown):
        assert reused(after) >= before["prompt_tokens"] - 1, "nothing changes before the cut"
    assert cut["prompt_tokens"] < grown[-1]["prompt_tokens"] + 60
    assert cut["prompt_tokens"] <= CONTEXT
    assert reused(after_the_cut) >= cut["prompt_tokens"] - 1, "the summary stays as it is after the cut"
