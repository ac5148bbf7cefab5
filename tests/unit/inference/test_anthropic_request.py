"""Requests of the Messages API: ours written for a vendor, a client's read for us."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triplane.domain.anthropic.requests import parse_messages_request
from triplane.domain.completion import (
    CompletionRequest,
    Content,
    ContentPart,
    Flow,
    FunctionCall,
    FunctionSpec,
    ImagePart,
    ImageUrl,
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    NamedFunction,
    NamedTool,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
)
from triplane.domain.errors import InvalidRequest, UnsupportedParameter
from triplane.inference.engines.anthropic_request import messages_prompt

CACHED = {"type": "ephemeral"}
NO_OBJECT = {"type": "tool_use", "id": "a", "name": "f", "input": [1]}


def written(request: CompletionRequest, *, mark_prefix: bool = False) -> dict[str, Any]:
    prompt = messages_prompt(request, "claude", 4096, mark_prefix=mark_prefix)
    body: dict[str, Any] = json.loads(msgspec.json.encode(prompt.body))
    return body


def asked(*messages: Message, **fields: Any) -> CompletionRequest:
    return CompletionRequest(request_id="req_1", model="m", messages=list(messages), **fields)


def parsed(**fields: Any) -> CompletionRequest:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return parse_messages_request(json.dumps(body).encode(), "req_1").completion


def user(text: str) -> Message:
    return Message(role="user", content=text)


def assistant(text: str | None, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=text, tool_calls=list(calls) or None)


def call(id_: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(id=id_, function=FunctionCall(name="f", arguments=arguments))


def result(id_: str, content: Any) -> Message:
    return Message(role="tool", tool_call_id=id_, content=content)


SYSTEM = Message(role="system", content="Be brief.")
TOOL = Tool(
    type="function", function=FunctionSpec(name="f", description="Does f.", parameters={"type": "object"})
)


# Ours for a vendor.


def test_leading_system_messages_go_in_front_and_a_later_one_stays_where_it_is() -> None:
    late = Message(role="system", content="Found: …")
    body = written(asked(SYSTEM, Message(role="developer", content="And kind."), user("Hi"), late))

    assert body["system"] == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "And kind."}]
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "Found: …"}]}
    ]


def test_results_of_tools_stand_together_in_the_next_message() -> None:
    body = written(
        asked(
            user("Hi"),
            assistant("Look.", call("a", '{"x": 1.0}'), call("b!")),
            result("a", "1"),
            result("b!", ""),
        )
    )

    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Look."},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1.0}},
                {"type": "tool_use", "id": "b_", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}]},
                {"type": "tool_result", "tool_use_id": "b_"},
            ],
        },
    ]
    assert (body["tools"], body["tool_choice"]) == (
        [{"name": "f", "input_schema": {"type": "object"}}],
        {"type": "none"},
    )


@pytest.mark.parametrize("arguments", ["nonsense", "[1]", '"{}"', ""])
def test_arguments_that_are_no_object_are_wrapped_in_one(arguments: str) -> None:
    body = written(asked(user("Hi"), assistant(None, call("a", arguments)), result("a", "no")))

    wrapped = {"arguments": arguments} if arguments else {}
    assert body["messages"][1]["content"][0]["input"] == wrapped


def test_the_stable_prefix_is_marked_for_the_cache() -> None:
    body = written(
        asked(SYSTEM, user("One"), assistant("Two"), user("Three"), tools=[TOOL]), mark_prefix=True
    )

    assert body["tools"][0]["cache_control"] == CACHED
    assert body["system"][0]["cache_control"] == CACHED
    marked = [block.get("cache_control") for message in body["messages"] for block in message["content"]]
    assert marked == [None, CACHED, None]


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("auto", None, {"type": "auto"}),
        ("none", None, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        (NamedTool(type="function", function=NamedFunction("f")), None, {"type": "tool", "name": "f"}),
    ],
)
def test_a_tool_choice_has_its_counterpart(choice: Any, parallel: bool | None, sent: Any) -> None:
    request = asked(user("Hi"), tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel)

    assert written(request).get("tool_choice") == sent


def test_images_go_as_data_or_by_their_address() -> None:
    images: list[ContentPart] = [
        TextPart("Which?"),
        ImagePart(ImageUrl("data:image/png;base64,aGk=")),
        ImagePart(ImageUrl("https://example.org/x.png", detail="low")),
    ]
    body = written(asked(Message(role="user", content=images)))

    assert [block["source"] for block in body["messages"][0]["content"][1:]] == [
        {"type": "base64", "media_type": "image/png", "data": "aGk="},
        {"type": "url", "url": "https://example.org/x.png"},
    ]
    with pytest.raises(InvalidRequest, match="data URL"):
        written(asked(Message(role="user", content=[ImagePart(ImageUrl("file:///etc/passwd"))])))


@pytest.mark.parametrize(
    ("content", "sent", "cut_off"),
    [
        ("Once upon ", "Once upon", " "),
        ("Once\n\n", "Once", "\n\n"),
        ("Once", "Once", ""),
        ([TextPart("On"), TextPart("ce "), TextPart("\n")], "Once", " \n"),
    ],
)
def test_a_prefill_ends_without_whitespace_which_is_remembered(content: Any, sent: str, cut_off: str) -> None:
    request = asked(user("Tell"), Message(role="assistant", content=content), continue_final_message=True)

    prompt = messages_prompt(request, "claude", 10)

    last = json.loads(msgspec.json.encode(prompt.body))["messages"][-1]
    assert last["role"] == "assistant"
    assert "".join(block["text"] for block in last["content"]) == sent
    assert prompt.cut_off == cut_off


def test_a_prefill_of_whitespace_alone_is_a_new_answer_whose_beginning_is_shown_already() -> None:
    prompt = messages_prompt(asked(user("Tell"), assistant("\n"), continue_final_message=True), "claude", 10)

    assert [message.role for message in prompt.body.messages] == ["user"]
    assert prompt.cut_off == "\n"


def test_a_prompt_that_begins_with_an_answer_gets_a_question_in_front() -> None:
    body = written(asked(assistant("Hello."), user("Hi")))

    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]


def test_the_end_user_is_named_by_a_hash() -> None:
    body = written(asked(user("Hi"), user="ann@example.org", flow=Flow(tenant="t")))

    name = body["metadata"]["user_id"]
    assert len(name) == 32
    assert "ann" not in name
    assert (
        name
        == written(asked(user("Yo"), user="ann@example.org", flow=Flow(tenant="t")))["metadata"]["user_id"]
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": Sampling(seed=1)}, "seed"),
        ({"sampling": Sampling(logprobs=True)}, "logprobs"),
        ({"sampling": Sampling(presence_penalty=0.5)}, "presence_penalty"),
        ({"response_format": JsonObjectFormat()}, "response_format"),
    ],
)
def test_what_the_api_does_not_know_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        written(asked(user("Hi"), **fields))

    assert refused.value.param == param


@pytest.mark.parametrize("messages", [[], [SYSTEM], [user(" \n")], [user("Hi"), assistant(None, call("a"))]])
def test_a_prompt_without_anything_to_answer_is_refused(messages: list[Message]) -> None:
    with pytest.raises(InvalidRequest):
        written(asked(*messages))


# A client's for us.


def test_a_clients_request_is_read_in_full() -> None:
    request = parsed(
        system=[{"type": "text", "text": "Be brief.", "cache_control": CACHED}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                    {"type": "text", "text": "Look."},
                    {"type": "tool_use", "id": "a", "name": "f", "input": {"x": [1, 2.50]}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "No.", "is_error": True},
                    {"type": "text", "text": "So?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                    },
                ],
            },
        ],
        tools=[{"name": "f", "input_schema": {"type": "object"}, "cache_control": CACHED}],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        temperature=0.5,
        metadata={"user_id": "u"},
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
        thinking={"type": "disabled"},
        service_tier="auto",
    )

    image = ImagePart(ImageUrl("data:image/png;base64,aGk="))
    assert request == CompletionRequest(
        request_id="req_1",
        model="m",
        messages=[
            SYSTEM,
            user("Hi"),
            assistant("Look.", call("a", '{"x": [1, 2.5]}')),
            result("a", "The tool failed: No."),
            Message(role="user", content=[TextPart("So?"), image]),
        ],
        sampling=Sampling(temperature=0.5, max_tokens=5, stop=["END"]),
        tools=[Tool(type="function", function=FunctionSpec(name="f", parameters={"type": "object"}))],
        tool_choice=NamedTool(type="function", function=NamedFunction("f")),
        parallel_tool_calls=False,
        response_format=JsonSchemaFormat(JsonSchema(name="answer", schema={"type": "object"})),
        user="u",
    )


def test_a_final_message_of_the_assistant_is_gone_on_from() -> None:
    request = parsed(
        messages=[{"role": "user", "content": "Tell"}, {"role": "assistant", "content": "Once upon "}]
    )

    assert request.continue_final_message
    assert request.messages[-1] == assistant("Once upon ")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"temperature": 2}, "temperature"),
        ({"top_k": 5}, "top_k"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking"),
        ({"messages": []}, "no message"),
        ({"messages": [{"role": "system", "content": "x"}]}, "no message"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"messages": [{"role": "system", "content": [NO_OBJECT]}]}, "no place"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "document"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]},
            "no place",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "x"},
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "a", "name": "f", "input": [1]}],
                    },
                ]
            },
            "object",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
    ],
)
def test_what_has_no_place_is_refused_and_says_where_it_is(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**fields)

    assert said in refused.value.message


def test_a_system_message_may_stand_among_the_others() -> None:
    request = parsed(
        messages=[{"role": "user", "content": "Hi"}, {"role": "system", "content": "It is Monday."}]
    )

    assert request.messages == [user("Hi"), Message(role="system", content="It is Monday.")]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_messages_request(body, "req_1")


# Both ways.

WORDS = st.text(min_size=1).filter(lambda text: text == text.strip() and "\0" not in text)
IDS = st.text("abcXYZ019_-", min_size=1, max_size=12)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
ARGUMENTS = st.dictionaries(st.text(), NUMBERS, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)
CALLS = st.builds(
    lambda id_, name, arguments: ToolCall(id=id_, function=FunctionCall(name=name, arguments=arguments)),
    IDS,
    IDS,
    ARGUMENTS,
)
IMAGES = st.sampled_from(["data:image/png;base64,aGk=", "https://example.org/x.png"]).map(
    lambda url: ImagePart(ImageUrl(url))
)
CONTENTS: st.SearchStrategy[Content] = WORDS | st.builds(
    lambda text, image: [TextPart(text), image], WORDS, IMAGES
)


@st.composite
def requests(draw: st.DrawFn) -> CompletionRequest:
    """Requests in the form that the wire has too: sides take turns, nothing is empty."""
    messages = [Message(role="system", content=draw(WORDS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 3))):
        messages.append(Message(role="user", content=draw(CONTENTS)))
        calls = draw(st.lists(CALLS, max_size=2, unique_by=lambda call: call.id))
        if not calls:
            messages.append(assistant(draw(WORDS)))
            continue
        messages.append(assistant(draw(st.none() | WORDS), *calls))
        messages += [result(call.id, draw(CONTENTS)) for call in calls]
        messages.append(assistant(draw(WORDS)))
    messages.append(Message(role="user", content=draw(CONTENTS)))
    continues = draw(st.booleans())
    if continues:
        messages.append(assistant(draw(WORDS)))
    return CompletionRequest(
        request_id="req_1",
        model="claude",
        messages=messages,
        sampling=Sampling(
            max_tokens=draw(st.integers(1, 10**6)),
            temperature=draw(st.none() | st.floats(0, 1)),
            top_p=draw(st.none() | st.floats(0, 1)),
            stop=draw(st.none() | st.lists(WORDS, min_size=1, max_size=3)),
        ),
        tools=[TOOL],
        tool_choice=draw(st.sampled_from([None, "auto", "none", "required"])),
        continue_final_message=continues,
    )


@settings(deadline=None)
@given(requests(), st.booleans())
def test_a_request_comes_back_as_it_was(request: CompletionRequest, mark_prefix: bool) -> None:
    prompt = messages_prompt(request, "claude", 10, mark_prefix=mark_prefix)
    again = parse_messages_request(msgspec.json.encode(prompt.body), "req_1")

    assert again.completion == request
    assert again.stream
    assert prompt.cut_off == ""
