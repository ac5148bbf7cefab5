"""Anthropic's own client against our translation of the Messages API, with the embedded engine behind it."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ToolParam

from engine_fixture import EngineServer
from gateways import gateway_of
from messages_server import serving_messages
from triplane.domain.completion import ModelCard
from triplane.inference.engines.llama_cpp import LlamaCppEngine

MODEL = "smollm2"
QUESTION: list[MessageParam] = [{"role": "user", "content": "Name three colours of the rainbow."}]
GREEDY = {"temperature": 0}
"""The client has no such parameter any more; the API still has it, for models that take it."""
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture
async def client(engine_server: EngineServer) -> AsyncIterator[AsyncAnthropic]:
    card = ModelCard(
        id=MODEL,
        context_length=engine_server.context_length,
        owned_by="triplane",
        supports_continuation=True,
    )
    gateway = gateway_of(LlamaCppEngine(engine_server.url, card, api_key=engine_server.api_key))
    async with serving_messages(gateway) as url:
        made = AsyncAnthropic(base_url=url.removesuffix("/v1"), api_key="k", max_retries=0, timeout=60)
        yield made
        await made.close()
    await gateway.close()


async def test_a_whole_answer(client: AsyncAnthropic) -> None:
    answer = await client.messages.create(
        model=MODEL, max_tokens=24, system="Be brief.", messages=QUESTION, extra_body=GREEDY
    )

    [block] = answer.content
    assert block.type == "text"
    assert block.text
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", MODEL)
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) > 5
    assert 0 < answer.usage.output_tokens <= 24


async def test_a_streamed_answer_adds_up_to_the_whole_one(client: AsyncAnthropic) -> None:
    fields: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 16,
        "messages": QUESTION,
        "extra_body": GREEDY,
    }
    async with client.messages.stream(**fields) as stream:
        pieces = [text async for text in stream.text_stream]
        streamed = await stream.get_final_message()
    whole = await client.messages.create(**fields)

    assert len(pieces) > 3
    assert "".join(pieces) == streamed.content[0].text == whole.content[0].text  # type: ignore[union-attr]
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage.output_tokens == whole.usage.output_tokens


async def test_a_forced_tool_is_called_in_a_stream_and_its_result_answered(client: AsyncAnthropic) -> None:
    question: MessageParam = {"role": "user", "content": "What's the weather in Rome?"}
    async with client.messages.stream(
        model=MODEL,
        max_tokens=80,
        messages=[question],
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "get_weather"},
    ) as stream:
        called = await stream.get_final_message()

    [call] = called.content
    assert called.stop_reason == "tool_use"
    assert call.type == "tool_use"
    assert call.name == "get_weather"
    assert call.input["city"] in ("Paris", "Rome")

    answer = await client.messages.create(
        model=MODEL,
        max_tokens=24,
        messages=[
            question,
            {"role": "assistant", "content": called.content},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees and sunny"}
                ],
            },
        ],
    )
    assert answer.content


async def test_a_prefill_is_gone_on_from(client: AsyncAnthropic) -> None:
    answer = await client.messages.create(
        model=MODEL,
        max_tokens=8,
        extra_body=GREEDY,
        messages=[*QUESTION, {"role": "assistant", "content": "Three colours are red, orange and"}],
    )

    [block] = answer.content
    assert block.type == "text"
    assert not block.text.lstrip().startswith("Three colours")


async def test_what_is_wrong_is_raised_as_the_clients_own_error(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        await client.messages.create(model="nope", max_tokens=5, messages=QUESTION)
    with pytest.raises(anthropic.BadRequestError, match="top_k"):
        await client.messages.create(model=MODEL, max_tokens=5, messages=QUESTION, extra_body={"top_k": 3})
    long: list[MessageParam] = [{"role": "user", "content": "word " * 4000}]
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        await client.messages.create(model=MODEL, max_tokens=5, messages=long)

    assert "not_found_error" in str(unknown.value)


async def test_hanging_up_in_a_stream_leaves_the_server_well(client: AsyncAnthropic) -> None:
    async with client.messages.stream(model=MODEL, max_tokens=400, messages=QUESTION) as stream:
        await anext(aiter(stream.text_stream))

    answer = await client.messages.create(model=MODEL, max_tokens=4, messages=QUESTION)
    assert answer.content
