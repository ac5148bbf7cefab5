"""OpenAI's own Python client: models, conversations, and its exception for each of our errors."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from app_fixture import AppServer

MODEL = "smollm2"
QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Name three colours of the rainbow."}
]


async def test_models_are_listed_and_found(openai_client: AsyncOpenAI) -> None:
    listed = [model.id async for model in openai_client.models.list()]
    found = await openai_client.models.retrieve(MODEL)

    assert MODEL in listed
    assert (found.id, found.object) == (MODEL, "model")
    assert found.model_extra
    assert found.model_extra["context_length"] > 0


async def test_a_wrong_key_is_an_authentication_error(app_server: AppServer) -> None:
    async with AsyncOpenAI(base_url=app_server.base_url, api_key="tp-wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.models.list()

    assert refused.value.status_code == 401
    assert refused.value.code == "invalid_api_key"


async def test_an_unknown_model_is_not_found(openai_client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as completion:
        await openai_client.chat.completions.create(model="nonesuch", messages=QUESTION)
    with pytest.raises(openai.NotFoundError):
        await openai_client.models.retrieve("nonesuch")

    assert completion.value.code == "model_not_found"
    assert completion.value.param == "model"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 9}, "temperature"),
        ({"messages": []}, "messages"),
        ({"extra_body": {"best_of_luck": 1}}, "best_of_luck"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"n": 2}, "n"),
    ],
)
async def test_a_field_that_is_wrong_is_a_bad_request_that_names_it(
    openai_client: AsyncOpenAI, fields: dict[str, Any], param: str
) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 2, **fields}
    with pytest.raises(openai.BadRequestError) as refused:
        await openai_client.chat.completions.create(**asked)

    assert refused.value.param == param
    assert param in refused.value.message


async def test_a_prompt_over_the_context_is_a_bad_request_with_its_code(openai_client: AsyncOpenAI) -> None:
    novel: list[ChatCompletionMessageParam] = [{"role": "user", "content": "word " * 6000}]
    with pytest.raises(openai.BadRequestError) as refused:
        await openai_client.chat.completions.create(model=MODEL, messages=novel, stream=True)

    assert refused.value.code == "context_length_exceeded"


async def test_conversations_are_made_found_changed_and_deleted(openai_client: AsyncOpenAI) -> None:
    made = await openai_client.conversations.create(metadata={"topic": "rainbows"})
    found = await openai_client.conversations.retrieve(made.id)
    changed = await openai_client.conversations.update(made.id, metadata={"topic": "clouds"})
    deleted = await openai_client.conversations.delete(made.id)

    assert (found.id, found.object, found.metadata) == (made.id, "conversation", {"topic": "rainbows"})
    assert changed.metadata == {"topic": "clouds"}
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "conversation.deleted")
    with pytest.raises(openai.NotFoundError):
        await openai_client.conversations.retrieve(made.id)


async def test_a_turn_of_a_conversation_is_stored_and_remembered(openai_client: AsyncOpenAI) -> None:
    conversation = await openai_client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "My name is Ada."}]
    )
    answer = await openai_client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=12,
        extra_body={"conversation_id": conversation.id},
    )
    stream = await openai_client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "And three more?"}],
        max_tokens=12,
        stream=True,
        extra_body={"conversation_id": conversation.id},
    )
    streamed = [chunk async for chunk in stream]

    stored: Any = await openai_client.get(f"/conversations/{conversation.id}/messages", cast_to=object)
    told = [(row["role"], row["content"]) for row in stored["data"]]
    assert answer.model_extra is not None
    assert answer.model_extra["conversation_id"] == conversation.id
    assert told == [
        ("user", "My name is Ada."),
        ("user", QUESTION[0]["content"]),
        ("assistant", answer.choices[0].message.content),
        ("user", "And three more?"),
        ("assistant", "".join(chunk.choices[0].delta.content or "" for chunk in streamed)),
    ]
    assert [row["seq"] for row in stored["data"]] == [1, 2, 3, 4, 5]
    assert streamed[0].model_extra is not None
    assert streamed[0].model_extra["message_id"] == stored["data"][4]["id"]


async def test_a_turn_in_a_conversation_that_does_not_exist_is_not_found(openai_client: AsyncOpenAI) -> None:
    gone = await openai_client.conversations.create()
    await openai_client.conversations.delete(gone.id)
    with pytest.raises(openai.NotFoundError):
        await openai_client.chat.completions.create(
            model=MODEL, messages=QUESTION, extra_body={"conversation_id": gone.id}
        )
