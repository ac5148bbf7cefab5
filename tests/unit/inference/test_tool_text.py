"""Tool calls in text: forced ones by a schema, free ones between tags; pieces may be cut anywhere."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triplane.domain.completion import (
    FunctionCall,
    FunctionSpec,
    Message,
    NamedFunction,
    NamedTool,
    Tool,
    ToolCall,
)
from triplane.domain.errors import EngineFailed, InvalidRequest
from triplane.domain.events import Delta, EngineEvent, ToolCallDelta
from triplane.inference.engines.forced_tools import ForcedCall, call_schema, forced_tools
from triplane.inference.engines.text_tools import TaggedCalls, with_tools_described, without_tool_roles

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(max_size=6), JSON_VALUES, max_size=4)
STEPS = st.integers(min_value=1, max_value=12)


def in_steps(text: str, step: int) -> list[str]:
    return [text[at : at + step] for at in range(0, len(text), step)]


def calls_in(events: list[EngineEvent]) -> list[tuple[str | None, object]]:
    calls: dict[int, tuple[str | None, str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            name, arguments = calls.get(event.index, (event.name, ""))
            calls[event.index] = (name, arguments + event.arguments)
    return [(name, json.loads(arguments)) for name, arguments in calls.values()]


def text_in(events: list[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


@given(ARGUMENTS, STEPS, st.sampled_from([None, 2]))
def test_a_forced_call_keeps_its_arguments_however_it_is_cut(
    arguments: dict[str, object], step: int, indent: int | None
) -> None:
    call = ForcedCall()
    events: list[EngineEvent] = []

    for piece in in_steps(json.dumps({"name": "f", "arguments": arguments}, indent=indent), step):
        call.push(piece, events)
    reason = call.end("stop", events)

    assert calls_in(events) == [("f", arguments)]
    assert reason == "tool_calls"


def test_a_forced_call_cut_off_by_a_limit_keeps_what_came() -> None:
    call = ForcedCall()
    events: list[EngineEvent] = []

    call.push('{"name": "f", "arguments": {"city": "Par', events)
    reason = call.end("length", events)

    assert reason == "length"
    assert "".join(e.arguments for e in events if isinstance(e, ToolCallDelta)) == '{"city": "Par'


@pytest.mark.parametrize("text", ["Sure!", '{"name": "f", "arguments": {"a": }}', ""])
def test_a_forced_call_that_is_none_fails(text: str) -> None:
    call = ForcedCall()
    events: list[EngineEvent] = []
    call.push(text, events)

    with pytest.raises(EngineFailed):
        call.end("stop", events)


def test_a_forced_tool_has_to_be_among_the_tools() -> None:
    tools = [Tool(type="function", function=FunctionSpec("f"))]

    with pytest.raises(InvalidRequest) as refused:
        forced_tools(tools, NamedTool(type="function", function=NamedFunction("g")))

    assert refused.value.param == "tool_choice"
    assert forced_tools(tools, "auto") == []
    assert forced_tools(tools, "required") == [FunctionSpec("f")]


def test_a_schemas_references_follow_it_to_its_new_place() -> None:
    parameters = {"$defs": {"p": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/p"}}}

    schema = call_schema([FunctionSpec("f", parameters=parameters)])

    assert schema["$defs"]["arguments0"]["properties"]["x"] == {"$ref": "#/$defs/arguments0/$defs/p"}


@given(ARGUMENTS, STEPS, st.text(alphabet="ab<to_cal> ", max_size=12))
def test_a_tagged_call_is_taken_out_of_the_text_around_it(
    arguments: dict[str, object], step: int, around: str
) -> None:
    if "<tool_call>" in around or "</tool_call>" in json.dumps(arguments):
        return
    calls = TaggedCalls(frozenset({"f"}), None)
    events: list[EngineEvent] = []
    tagged = f"<tool_call>\n{json.dumps({'name': 'f', 'arguments': arguments})}\n</tool_call>"

    for piece in in_steps(around + tagged + around, step):
        calls.push(piece, events)
    reason = calls.end("stop", events)

    assert calls_in(events) == [("f", arguments)]
    assert text_in(events) == around * 2
    assert reason == "tool_calls"


@given(st.text(max_size=40), STEPS)
def test_text_without_a_call_passes_unchanged(text: str, step: int) -> None:
    calls = TaggedCalls(frozenset({"f"}), None)
    events: list[EngineEvent] = []

    for piece in in_steps(text, step):
        calls.push(piece, events)

    assert calls.end("stop", events) == "stop"
    assert text_in(events) == text


@pytest.mark.parametrize(
    "inner", ["{not json", '{"name": "unknown", "arguments": {}}', '{"name": "f", "arguments": "x"}', "[]"]
)
def test_a_malformed_call_stays_text(inner: str) -> None:
    calls = TaggedCalls(frozenset({"f"}), None)
    events: list[EngineEvent] = []

    calls.push(f"<tool_call>{inner}</tool_call>", events)

    assert calls.end("stop", events) == "stop"
    assert text_in(events) == f"<tool_call>{inner}</tool_call>"


def test_a_call_without_its_closing_tag_is_still_a_call() -> None:
    calls = TaggedCalls(frozenset({"f"}), None)
    events: list[EngineEvent] = []

    calls.push('<tool_call>[{"name": "f"}]', events)

    assert calls.end("stop", events) == "tool_calls"
    assert calls_in(events) == [("f", {})]


def test_one_call_at_a_time_keeps_the_first() -> None:
    calls = TaggedCalls(frozenset({"f"}), 1)
    events: list[EngineEvent] = []

    calls.push('<tool_call>[{"name": "f"}, {"name": "f", "arguments": {"n": 2}}]</tool_call>', events)
    calls.end("stop", events)

    assert calls_in(events) == [("f", {})]


def test_calls_and_results_become_text_for_a_template_without_them() -> None:
    call = ToolCall(id="1", function=FunctionCall("f", '{"a": 1}'))

    asked = without_tool_roles(Message(role="assistant", tool_calls=[call]))
    told = without_tool_roles(Message(role="tool", content="42", tool_call_id="1"))

    assert asked.content == '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    assert (told.role, told.content) == ("user", "<tool_response>\n42\n</tool_response>")


def test_tools_are_described_behind_the_policy() -> None:
    messages = [Message(role="system", content="Be kind."), Message(role="user", content="Hi.")]

    described = with_tools_described(messages, [FunctionSpec("look_up")], "Call it.")

    assert str(described[0].content).startswith("Be kind.\n\nYou can call")
    assert "look_up" in str(described[0].content)
    assert described[1:] == messages[1:]
