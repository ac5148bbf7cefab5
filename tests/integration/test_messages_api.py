"""Anthropic's own client against the product: a key, an answer, a stream, tools, the bill, the errors."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ToolParam

from app_fixture import AppServer
from http_app import HttpApp
from limit_examples import per_user
from triplane.domain.errors import Overloaded
from triplane.domain.events import Delta, Finished, Started, Usage
from triplane.inference.buckets import MemoryBuckets
from triplane.inference.limit_policy import LimitPolicy
from triplane.inference.limits import Limiter
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.bff.messages import messages_handlers
from triplane.orchestration.stateless import StatelessDeps
from triplane.telemetry.metrics import Metrics
from turn_fakes import MemoryUsage, ScriptedGateway

MODEL = "smollm2"
NO_LIMITS = LimitPolicy()
QUESTION: list[MessageParam] = [{"role": "user", "content": "Name three colours of the rainbow."}]
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
    },
}
ASKED: dict[str, Any] = {
    "model": "model",
    "max_tokens": 8,
    "messages": [{"role": "user", "content": "Hello there"}],
}


@pytest.fixture
async def client(app_server: AppServer) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(
        base_url=app_server.url, api_key=app_server.key, max_retries=0, timeout=60
    ) as made:
        yield made


async def test_a_whole_answer_is_on_the_bill(client: AsyncAnthropic, app_server: AppServer) -> None:
    raw = await client.messages.with_raw_response.create(
        model=MODEL, max_tokens=12, system="Be brief.", messages=QUESTION
    )
    answer = await raw.parse()

    assert answer.content[0].type == "text"
    assert answer.stop_reason in ("end_turn", "max_tokens")
    [row] = await app_server.usage_rows(raw.headers["request-id"])
    assert row["completion_tokens"] == answer.usage.output_tokens
    assert row["api_key_id"]


async def test_a_stream_and_its_end(client: AsyncAnthropic) -> None:
    async with client.messages.stream(model=MODEL, max_tokens=12, messages=QUESTION) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert kinds[0] == "message_start"
    assert "message_stop" in kinds
    assert final.usage.output_tokens > 0


async def test_a_forced_tool_is_called(client: AsyncAnthropic) -> None:
    answer = await client.messages.create(
        model=MODEL,
        max_tokens=120,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "get_weather"},
        extra_body={"temperature": 0},
    )
    [block] = answer.content
    assert block.type == "tool_use"
    assert answer.stop_reason == "tool_use"


async def test_tokens_are_counted_as_the_engine_counts_them(client: AsyncAnthropic) -> None:
    short = await client.messages.count_tokens(model=MODEL, messages=QUESTION)
    with_tools = await client.messages.count_tokens(model=MODEL, messages=QUESTION, tools=[WEATHER])
    assert 5 < short.input_tokens < with_tools.input_tokens


async def test_a_bearer_key_does_as_well_and_a_wrong_key_is_told_in_the_apis_shape(
    app_server: AppServer,
) -> None:
    async with AsyncAnthropic(base_url=app_server.url, auth_token=app_server.key, max_retries=0) as bearer:
        assert (await bearer.messages.create(model=MODEL, max_tokens=2, messages=QUESTION)).content
    async with AsyncAnthropic(base_url=app_server.url, api_key="tp-wrong", max_retries=0) as wrong:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            await wrong.messages.create(model=MODEL, max_tokens=2, messages=QUESTION)
    body = refused.value.body
    assert isinstance(body, dict)
    assert body["error"]["type"] == "authentication_error"


async def test_what_is_wrong_with_a_request_is_told_in_the_apis_shape(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.create(model="none", max_tokens=2, messages=QUESTION)
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        await client.messages.create(
            model=MODEL, max_tokens=2, messages=[{"role": "user", "content": "word " * 20_000}]
        )


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway(
        [
            Started(engine="scripted", model="model"),
            Delta(text="Hi"),
            Finished(reason="stop", usage=Usage(prompt_tokens=4, completion_tokens=1)),
        ]
    )


def app_over(gateway: ScriptedGateway, policy: LimitPolicy = NO_LIMITS) -> HttpApp:
    deps = StatelessDeps(
        gateway=gateway,
        usage=MemoryUsage(),
        metering=BackgroundTasks(),
        limits=Limiter(MemoryBuckets(), policy, Metrics({})),
    )
    return HttpApp(gateway=gateway, extra_handlers=messages_handlers(deps))


async def test_the_other_header_has_the_same_limits(gateway: ScriptedGateway) -> None:
    app = app_over(gateway, per_user(requests=1))
    key = await app.new_key()
    async with app.anonymous() as client:
        first = await client.post("/v1/messages", json=ASKED, headers={"x-api-key": key})
        by_other = [
            await client.post("/v1/messages", json=ASKED, headers=headers)
            for headers in (
                {"x-api-key": key},
                {"authorization": f"Bearer {key}"},
                {"authorization": f"Bearer {key}", "x-api-key": key},
            )
        ]
    assert first.status_code == 200
    assert [each.status_code for each in by_other] == [429] * 3
    assert by_other[0].json()["error"]["type"] == "rate_limit_error"
    assert int(by_other[0].headers["retry-after"]) >= 1


async def test_a_wrong_key_in_the_other_header_never_falls_back_to_the_cookie(
    gateway: ScriptedGateway,
) -> None:
    async with app_over(gateway).with_cookie() as client:
        answer = await client.post("/v1/messages", json=ASKED, headers={"x-api-key": "tp-wrong"})
    assert answer.status_code == 401
    assert answer.json()["type"] == "error"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_every_refusal_has_the_apis_shape(gateway: ScriptedGateway, path: str) -> None:
    async with app_over(gateway).with_key() as client:
        answers = [
            await client.post(path, content=b"{", headers={"content-type": "application/json"}),
            await client.post(path, content=b"{}", headers={"content-type": "text/plain"}),
            await client.post(path, json={**ASKED, "surprise": 1}),
            await client.get(path),
        ]
    assert [each.status_code for each in answers] == [400, 415, 400, 405]
    for each in answers:
        body = each.json()
        assert body["type"] == "error"
        assert body["error"]["type"] == "invalid_request_error"
        assert body["request_id"] == each.headers["request-id"]


async def test_an_error_that_nobody_foresaw_has_the_apis_shape_too(gateway: ScriptedGateway) -> None:
    gateway.refusal = RuntimeError("a bug with a secret in it")
    async with app_over(gateway).with_key() as client:
        answer = await client.post("/v1/messages", json=ASKED)
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "api_error"
    assert "secret" not in answer.text


async def test_a_busy_engine_says_when_to_come_back(gateway: ScriptedGateway) -> None:
    gateway.refusal = Overloaded("busy", retry_after_s=3)
    async with app_over(gateway).with_key() as client:
        answer = await client.post("/v1/messages", json=ASKED)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.json()["error"]["type"] == "overloaded_error"


async def test_errors_elsewhere_keep_openais_shape(gateway: ScriptedGateway) -> None:
    async with app_over(gateway).anonymous() as client:
        answer: httpx.Response = await client.get("/v1/models")
    assert answer.json()["error"]["code"] == "invalid_api_key"
