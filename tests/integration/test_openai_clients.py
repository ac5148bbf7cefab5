"""OpenAI's own Python client against the real thing, as a user would: an address and a key."""

import asyncio
import json
from typing import Any

from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam

from app_fixture import AppServer

MODEL = "smollm2"
QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Name three colours of the rainbow."}
]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


async def chunks_of(stream: Any) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in stream]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def test_a_whole_answer(openai_client: AsyncOpenAI) -> None:
    answer = await openai_client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=24)

    [choice] = answer.choices
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_the_blocking_client_works_as_well(app_server: AppServer) -> None:
    def ask() -> str | None:
        with OpenAI(base_url=app_server.base_url, api_key=app_server.key) as blocking:
            answer = blocking.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=8)
            return answer.choices[0].message.content

    assert await asyncio.to_thread(ask)


async def test_a_streamed_answer_is_role_then_text_then_reason_then_usage(openai_client: AsyncOpenAI) -> None:
    chunks = await chunks_of(
        await openai_client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            max_completion_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    *body, usage = chunks
    assert body[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert len([chunk for chunk in body if chunk.choices[0].delta.content]) > 3
    assert body[-1].choices[0].finish_reason in ("stop", "length")
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens > 3


async def test_without_include_usage_no_chunk_carries_usage(openai_client: AsyncOpenAI) -> None:
    chunks = await chunks_of(
        await openai_client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4, stream=True)
    )

    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


async def test_the_same_seed_gives_the_same_answer_streamed_or_not(openai_client: AsyncOpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 16, "seed": 7}
    whole = await openai_client.chat.completions.create(**fields, temperature=0)
    streamed = await chunks_of(
        await openai_client.chat.completions.create(**fields, temperature=0, stream=True)
    )

    assert text_of(streamed) == whole.choices[0].message.content


async def test_max_tokens_and_stop_end_the_answer_where_they_say(openai_client: AsyncOpenAI) -> None:
    cut = await openai_client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=3)
    count: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Repeat exactly: one two three"}]
    stopped = await openai_client.chat.completions.create(
        model=MODEL, messages=count, max_tokens=40, stop=["e"], temperature=0
    )

    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 3
    assert "e" not in (stopped.choices[0].message.content or "")
    assert stopped.choices[0].finish_reason == "stop"


async def test_log_probabilities_come_when_asked_for(openai_client: AsyncOpenAI) -> None:
    answer = await openai_client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=5, logprobs=True, top_logprobs=2
    )

    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert all(item.logprob <= 0 and len(item.top_logprobs) == 2 for item in logprobs.content)


async def test_a_required_tool_is_called_with_arguments_of_its_schema(openai_client: AsyncOpenAI) -> None:
    question: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What's the weather in Rome?"}]
    answer = await openai_client.chat.completions.create(
        model=MODEL, messages=question, tools=[WEATHER], tool_choice="required", max_tokens=80
    )

    [call] = answer.choices[0].message.tool_calls or []
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.type == "function"
    assert call.id
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


async def test_a_named_tool_is_called_in_a_stream_and_its_result_can_be_sent_back(
    openai_client: AsyncOpenAI,
) -> None:
    question: ChatCompletionMessageParam = {"role": "user", "content": "What's the weather in Paris?"}
    chunks = await chunks_of(
        await openai_client.chat.completions.create(
            model=MODEL,
            messages=[question],
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            max_tokens=80,
            stream=True,
        )
    )
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    arguments = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
    first = pieces[0]
    assert first.id
    assert first.function is not None
    assert first.function.name == "get_weather"
    assert set(json.loads(arguments)) == {"city"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"

    answer = await openai_client.chat.completions.create(
        model=MODEL,
        messages=[
            question,
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": first.id,
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": arguments},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": first.id, "content": "18 degrees and sunny"},
        ],
        max_tokens=24,
    )
    assert answer.choices[0].message.content


async def test_a_json_schema_holds_the_answer(openai_client: AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    answer = await openai_client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Pick a colour and a small number."}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "pick", "schema": schema, "strict": True},
        },
        max_tokens=60,
        temperature=0,
    )

    picked = json.loads(answer.choices[0].message.content or "")
    assert picked["colour"] in ("red", "blue")
    assert isinstance(picked["count"], int)


async def test_hanging_up_in_a_stream_leaves_the_server_well(openai_client: AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=400, stream=True
    )
    await anext(aiter(stream))
    await stream.close()

    answer = await openai_client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4)
    assert answer.choices[0].message.content
