"""The bytes on the wire of a streamed answer, and OpenAI's client for JavaScript."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from openai import AsyncOpenAI

from app_fixture import AppServer
from triplane.orchestration.bff.event_stream import PING

JS = Path(__file__).parents[1] / "js"
BODY: dict[str, Any] = {
    "model": "smollm2",
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 8,
    "stream": True,
    "stream_options": {"include_usage": True},
}


def session(app_server: AppServer) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        app_server.url,
        headers={"authorization": f"Bearer {app_server.key}"},
        timeout=aiohttp.ClientTimeout(total=60),
    )


def data_lines(wire: str) -> list[str]:
    return [line.removeprefix("data: ") for line in wire.splitlines() if line.startswith("data: ")]


async def test_a_stream_is_server_sent_events_that_nothing_may_hold_back(app_server: AppServer) -> None:
    async with (
        session(app_server) as http,
        http.post("/v1/chat/completions", json=BODY, headers={"accept-encoding": "gzip"}) as response,
    ):
        wire = (await response.read()).decode()

    assert response.status == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "no-cache" in response.headers["cache-control"]
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers
    assert response.headers["x-request-id"]
    *events, done = data_lines(wire)
    chunks = [json.loads(event) for event in events]
    assert done == "[DONE]"
    assert wire.endswith("data: [DONE]\n\n")
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-2]["choices"][0]["finish_reason"] in ("stop", "length")
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_the_events_of_a_turn_carry_positions_and_can_be_had_again_from_any(
    app_server: AppServer,
) -> None:
    async with session(app_server) as http:
        async with http.post("/v1/conversations", json={}) as made:
            conversation = (await made.json())["id"]
        turn = {**BODY, "conversation_id": conversation}
        async with http.post("/v1/chat/completions", json=turn) as response:
            wire = await response.text()
        first = json.loads(data_lines(wire)[0])
        events = f"/v1/turns/{first['turn_id']}/events"
        async with http.get(events, headers={"last-event-id": "3"}) as response:
            again = await response.text()

    blocks = [block for block in wire.split("\n\n") if block.startswith("id: ")]
    positions = [int(block.splitlines()[0].removeprefix("id: ")) for block in blocks]
    assert positions == sorted(set(positions))
    assert all("\ndata: {" in block for block in blocks)
    assert first["conversation_id"] == conversation
    resumed = [block for block in again.split("\n\n") if block.startswith("id: ")]
    assert resumed == [block for block, position in zip(blocks, positions, strict=True) if position > 3]


async def test_heartbeats_in_a_turn_are_nothing_to_openais_client() -> None:
    def event(text: str, position: int) -> bytes:
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
        return b"id: %d\ndata: %s\n\n" % (position, json.dumps(chunk | {"choices": choices}).encode())

    async def answer(_: web.Request) -> web.Response:
        wire = PING + event("Hel", 1) + PING + PING + event("lo", 2) + PING + b"data: [DONE]\n\n"
        return web.Response(body=wire, content_type="text/event-stream")

    server = web.Application()
    server.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0
        ) as client:
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            texts = [chunk.choices[0].delta.content async for chunk in stream]
    finally:
        await runner.cleanup()

    assert texts == ["Hel", "lo"]


async def test_openais_javascript_client_works_as_in_its_own_examples(app_server: AppServer) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(
            "NODE IS MISSING: OpenAI's JavaScript client was NOT tested. Install Node.js 20 or newer."
        )
    if not (JS / "node_modules" / "openai").exists():
        await run(npm, "ci", "--no-audit", "--no-fund")

    told = await run(
        "node", "clients.mjs", OPENAI_BASE_URL=app_server.base_url, OPENAI_API_KEY=app_server.key
    )

    assert json.loads(told.splitlines()[-1]) == {"passed": 8}


async def run(*command: str, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=JS,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 110)
    assert process.returncode == 0, output.decode()
    return output.decode().strip()
