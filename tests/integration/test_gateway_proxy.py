"""The gateway's own HTTP face, as OpenAI's and Anthropic's clients and hostile ones meet it."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import redis.asyncio
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from fleets import MODEL
from limit_examples import per_user
from proxy_fixture import (
    QUESTION,
    ServedProxy,
    is_well,
    post,
    question,
    read_usage,
    serving_proxy,
)
from simulated_engines import running_simulated_engines
from triplane.inference.service import connection
from triplane.inference.service.keys import KeyFile, make_key
from triplane.inference.simulated_engine.faults import Refuse
from waiting import until

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
}
SLOW: dict[str, Any] = {"speed": 1.0, "answer_tokens": 20_000}
"""Engines whose answers take minutes: they end because somebody ends them."""
STUCK: dict[str, Any] = {"speed": 0.01, "answer_tokens": 20_000}
"""Engines that take about a second for a token."""


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[ServedProxy]:
    async with serving_proxy(tmp_path) as served:
        yield served


def openai_at(proxy: ServedProxy, key: str | None = None) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=key or proxy.key, max_retries=0, timeout=20)


def anthropic_at(proxy: ServedProxy, **who: Any) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=proxy.url, max_retries=0, timeout=20, **(who or {"api_key": proxy.key}))


# OpenAI's client.


async def test_a_streamed_answer_is_the_whole_one(proxy: ServedProxy) -> None:
    async with openai_at(proxy) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=20)
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 20


async def test_a_forced_tool_is_called(proxy: ServedProxy) -> None:
    tool: Any = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
    async with openai_at(proxy) as client:
        answer = await client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            tools=[tool],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
        )

    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


async def test_models_are_listed_and_one_is_shown(proxy: ServedProxy) -> None:
    async with openai_at(proxy) as client:
        assert [model.id async for model in client.models.list()] == [MODEL]
        assert (await client.models.retrieve(MODEL)).id == MODEL
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nope")


async def test_what_is_wrong_is_raised_as_the_clients_own_error(proxy: ServedProxy) -> None:
    async with openai_at(proxy) as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.chat.completions.create(model="nope", messages=QUESTION)
        with pytest.raises(openai.BadRequestError) as wrong:
            await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=-1)
        with pytest.raises(openai.BadRequestError) as product:
            await client.chat.completions.create(
                model=MODEL, messages=QUESTION, extra_body={"conversation_id": "conv_1"}
            )
    async with openai_at(proxy, "tp-wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model=MODEL, messages=QUESTION)

    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert (wrong.value.param, product.value.param) == ("max_tokens", "conversation_id")


# Limits.


async def test_limits_are_told_in_headers_and_kept(tmp_path: Path) -> None:
    async with (
        serving_proxy(tmp_path, policy=per_user(requests=2, tokens=10_000)) as proxy,
        openai_at(proxy) as client,
    ):
        raw = client.chat.completions.with_raw_response
        first = await raw.create(model=MODEL, messages=QUESTION, max_tokens=100)
        async with client.chat.completions.with_streaming_response.create(
            model=MODEL, messages=QUESTION, max_tokens=100, stream=True
        ) as second:
            await second.read()
        with pytest.raises(openai.RateLimitError) as refused:
            await raw.create(model=MODEL, messages=QUESTION, max_tokens=100)

    names = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-limit-tokens")
    assert [first.headers[name] for name in names] == ["2", "1", "10000"]
    assert [second.headers[name] for name in names] == ["2", "0", "10000"]
    headers = refused.value.response.headers
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(headers["retry-after"]) <= 30
    assert refused.value.code == "rate_limit_exceeded"


async def test_a_request_that_failed_costs_no_limit_and_a_slot_is_left(tmp_path: Path) -> None:
    policy = per_user(requests=2, concurrent=1)
    async with serving_proxy(tmp_path, policy=policy) as proxy, openai_at(proxy) as client:
        for _ in range(4):
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="nope", messages=QUESTION)
        assert await is_well(proxy)
        assert await is_well(proxy)


# Clients that go, or don't read.


@pytest.mark.parametrize("engine", [SLOW, STUCK], ids=["in the middle", "before the first token"])
@pytest.mark.parametrize("stream", [True, False])
async def test_who_hangs_up_ends_the_engines_work(
    tmp_path: Path, engine: dict[str, Any], stream: bool
) -> None:
    async with serving_proxy(tmp_path, **engine) as proxy:
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(post(proxy, question(stream=stream)))
        await until(lambda: proxy.running == 1)
        if engine is SLOW:
            await until(lambda: proxy.fleet.computed.completion_tokens > 0)
        writer.close()
        await until(lambda: proxy.running == 0)
        [line] = await proxy.usage(1)

        assert line.outcome == "cancelled"
        assert proxy.fleet.computed.completion_tokens < 5_000


async def test_a_client_that_does_not_read_holds_up_its_own_stream_alone(tmp_path: Path) -> None:
    async with serving_proxy(tmp_path, answer_tokens=100_000) as proxy:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", proxy.port))
        deaf.sendall(post(proxy, question(stream=True)))
        await until(lambda: proxy.server.unsent_bytes > connection.WRITE_BUFFER_BYTES)

        async with openai_at(proxy) as client:
            answer = await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=5000)

        assert answer.usage is not None
        assert answer.usage.completion_tokens == 5000
        assert proxy.server.unsent_bytes < 2**20
        [line] = await proxy.usage(1)
        assert line.completion_tokens == 5000
        deaf.close()
        await until(lambda: proxy.server.open_connections == 0)
        assert [each.outcome for each in await proxy.usage(2)] == ["complete", "cancelled"]


# The bill.


async def test_the_bill_has_a_line_for_each_call_and_adds_up_to_the_engines_own_counts(
    tmp_path: Path,
) -> None:
    price = {"input": 1, "output": 2}
    async with (
        serving_proxy(tmp_path, {"first": {"retries": 0}, "second": {"price": price}}) as proxy,
        openai_at(proxy) as client,
    ):
        await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=7)
        proxy.fleet.break_engine(0, Refuse(status=500, count=2))
        for max_tokens in (9, 11):
            await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=max_tokens)
        lines = await proxy.usage(5)
        computed = proxy.fleet.computed

    assert [(line.attempt, line.route, line.outcome) for line in lines] == [
        (1, "first", "complete"),
        (1, "first", "failed"),
        (2, "second", "complete"),
        (1, "first", "failed"),
        (2, "second", "complete"),
    ]
    assert sum(line.completion_tokens for line in lines) == computed.completion_tokens == 27
    assert sum(line.prompt_tokens - line.cached_tokens for line in lines) == computed.prompt_tokens
    assert [line.code for line in lines if line.outcome == "failed"] == ["engine_failed"] * 2
    second = lines[2]
    assert second.cost == second.prompt_tokens * 1000 + second.completion_tokens * 2000
    assert (second.key, second.tenant, second.user) == ("alice", "acme", "alice")
    assert second.replica == "second"


async def test_calls_are_billed_also_when_none_has_answered(tmp_path: Path) -> None:
    async with serving_proxy(tmp_path, {"pool": {"retries": 1}}) as proxy, openai_at(proxy) as client:
        proxy.fleet.break_engine(0, Refuse(status=500))
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model=MODEL, messages=QUESTION)
        lines = await proxy.usage(2)

    assert [(line.attempt, line.outcome, line.completion_tokens) for line in lines] == [
        (1, "failed", 0),
        (2, "failed", 0),
    ]


# Keys.


async def test_keys_are_read_again_without_dropping_a_stream(tmp_path: Path) -> None:
    async with serving_proxy(tmp_path, **SLOW) as proxy, openai_at(proxy) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=300, stream=True
        )
        await anext(aiter(stream))
        secret, lines = make_key("bob")
        proxy.keys.write_text(lines)
        proxy.server.application.look()

        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
        async with openai_at(proxy, secret) as other:
            assert (await other.models.list()).data
        proxy.keys.write_text("not = [a key file")
        proxy.server.application.look()
        async with openai_at(proxy, secret) as other:
            assert (await other.models.list()).data
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_key_may_ask_for_the_response_cache(tmp_path: Path) -> None:
    (alice, plain), (bob, caching) = make_key("alice"), make_key("bob")
    (tmp_path / "keys.toml").write_text(f"{plain}{caching}cache = true\n")
    keys = KeyFile(tmp_path / "keys.toml")

    assert not keys.find(f"Bearer {alice}").caches
    assert keys.find("", bob).caches


# Anthropic's client.


@pytest.mark.parametrize("header", ["api_key", "auth_token"])
async def test_anthropics_client_gets_a_whole_answer_and_a_stream(proxy: ServedProxy, header: str) -> None:
    async with anthropic_at(proxy, **{header: proxy.key}) as client:
        whole = await client.messages.create(model=MODEL, max_tokens=12, messages=QUESTION)
        async with client.messages.stream(model=MODEL, max_tokens=12, messages=QUESTION) as stream:
            streamed = await stream.get_final_message()

    assert whole.content[0].type == streamed.content[0].type == "text"
    assert whole.content[0].text == streamed.content[0].text
    assert whole.stop_reason == streamed.stop_reason == "max_tokens"
    assert whole.usage.output_tokens == streamed.usage.output_tokens == 12
    assert [line.completion_tokens for line in await proxy.usage(2)] == [12, 12]


async def test_anthropics_client_has_a_forced_tool_called(proxy: ServedProxy) -> None:
    async with (
        anthropic_at(proxy) as client,
        client.messages.stream(
            model=MODEL,
            max_tokens=200,
            messages=QUESTION,
            tools=[{"name": "get_weather", "input_schema": WEATHER}],  # type: ignore[typeddict-item]
            tool_choice={"type": "tool", "name": "get_weather"},
        ) as stream,
    ):
        called = await stream.get_final_message()

    [call] = called.content
    assert call.type == "tool_use"
    assert call.input["city"] in ("Paris", "Rome")


async def test_anthropics_client_raises_its_own_errors(tmp_path: Path) -> None:
    async with serving_proxy(tmp_path, policy=per_user(requests=1)) as proxy:
        async with anthropic_at(proxy, api_key="tp-wrong") as client:
            with pytest.raises(anthropic.AuthenticationError):
                await client.messages.create(model=MODEL, max_tokens=5, messages=QUESTION)
        async with anthropic_at(proxy) as client:
            with pytest.raises(anthropic.NotFoundError) as unknown:
                await client.messages.create(model="nope", max_tokens=5, messages=QUESTION)
            with pytest.raises(anthropic.BadRequestError, match="top_k"):
                await client.messages.create(
                    model=MODEL, max_tokens=5, messages=QUESTION, extra_body={"top_k": 3}
                )
            await client.messages.create(model=MODEL, max_tokens=5, messages=QUESTION)
            with pytest.raises(anthropic.RateLimitError) as limited:
                await client.messages.create(model=MODEL, max_tokens=5, messages=QUESTION)

    assert "not_found_error" in str(unknown.value)
    assert unknown.value.request_id
    assert limited.value.response.headers["retry-after"]


# The end.


async def test_what_still_runs_at_the_end_of_the_grace_is_broken_off_and_billed(tmp_path: Path) -> None:
    async with serving_proxy(tmp_path, **SLOW) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(post(proxy, question(stream=True)))
        for _ in range(4):
            await reader.readuntil(b'"content":')
        await proxy.server.drain(0.0)
        assert not proxy.server.running

        [line] = await proxy.usage(1)
        assert line.outcome == "cancelled"
        assert line.completion_tokens > 0
        await until(lambda: proxy.running == 0)
        writer.close()


async def test_the_process_finishes_its_streams_when_told_to_stop(
    tmp_path: Path, redis_url: str, redis_client: redis.asyncio.Redis
) -> None:
    """With limits in Redis, of the catalogue's plan."""
    async with running_simulated_engines(1, speed=1.0, answer_tokens=150) as [engine]:
        (tmp_path / "models.toml").write_text(
            f"[plans.default]\ntokens_per_minute = 2000\n"
            f'[routes.one]\nengine = "vllm"\nurls = ["{engine.url}"]\nmodel = "{engine.engine.model_id}"\n'
            f'context_length = 8192\n[models.{MODEL}]\nroutes = ["one"]\n'
        )
        key, lines = make_key("alice")
        (tmp_path / "keys.toml").write_text(f"{lines}cache = true\n")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("triplane"),
            *("gateway", "--http", f"127.0.0.1:{port}", "--keys", tmp_path / "keys.toml"),
            *("--usage-log", tmp_path / "usage.jsonl"),
            env={
                **os.environ,
                "TRIPLANE_CATALOGUE": str(tmp_path / "models.toml"),
                "TRIPLANE_DATA_DIR": str(tmp_path),
                "TRIPLANE_REDIS_URL": redis_url,
            },
        )
        try:
            await until(lambda: _listens(port), 20)
            async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key) as client:
                stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
                await anext(aiter(stream))
                names = await redis_client.keys()
                process.send_signal(signal.SIGTERM)
                chunks = [chunk async for chunk in stream]
            status = await asyncio.wait_for(process.wait(), 10)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

        [line] = read_usage(tmp_path / "usage.jsonl")
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert status == 0
        assert line.completion_tokens == engine.engine.simulation.generated == 150
        assert stream.response.headers["x-ratelimit-limit-tokens"] == "2000"
        assert any(b"{alice}" in name for name in names)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
