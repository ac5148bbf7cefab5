"""What is left out under load, and that it is named only when it is."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instant_loop import run_instantly
from scripted_engines import HANG, MODEL, Scene, ScriptedEngine, Told, ask, complete, says, scene
from triplane.domain.completion import (
    CompletionRequest,
    FunctionCall,
    FunctionSpec,
    Message,
    Tool,
    ToolCall,
)
from triplane.domain.events import Started
from triplane.inference.catalogue import Step
from triplane.inference.degradation import steps_for, with_less_history, without_offered_tools

TOOL = Tool(type="function", function=FunctionSpec(name="f"))
CALLS = [ToolCall(id="call_1", function=FunctionCall(name="f", arguments="{}"))]


def said(role: Any, content: str = "x", **fields: Any) -> Message:
    return Message(role=role, content=content, **fields)


TURNS = st.lists(
    st.sampled_from(
        [
            [said("user"), said("assistant")],
            [
                said("user"),
                said("assistant", tool_calls=CALLS),
                said("tool", tool_call_id="call_1"),
                said("assistant"),
            ],
        ]
    ),
    max_size=6,
)


@given(turns=TURNS, most=st.integers(0, 40), lead=st.integers(0, 2), greeting=st.booleans())
def test_less_history_keeps_instructions_the_newest_question_and_calls_with_their_results(
    turns: list[list[Message]], most: int, lead: int, greeting: bool
) -> None:
    messages = [said("system")] * lead + [said("assistant", "Welcome")] * greeting
    messages += [message for turn in turns for message in turn] + [said("user", "newest")]

    kept = with_less_history(ask(messages=messages), [1] * len(messages), most).messages

    assert kept[:lead] == messages[:lead]
    behind = kept[lead:]
    assert behind == messages[len(messages) - len(behind) :]
    assert behind[-1].content == "newest"
    assert len(kept) <= max(most, lead + 1)
    if len(messages) <= most:
        assert kept == messages
    else:
        assert behind[0].role == "user"


def test_as_much_history_stays_as_fits() -> None:
    messages = [said("user"), said("assistant"), said("user"), said("assistant"), said("user")]

    kept = with_less_history(ask(messages=messages), [10, 10, 10, 10, 10], 35).messages

    assert kept == messages[2:]


@pytest.mark.parametrize(
    "request_",
    [
        ask(),
        ask(tools=[TOOL], tool_choice="required"),
        ask(tools=[TOOL], messages=[said("user"), said("assistant", tool_calls=CALLS)]),
    ],
    ids=["no tools", "a forced tool", "amid calls"],
)
def test_tools_that_are_needed_stay(request_: CompletionRequest) -> None:
    assert without_offered_tools(request_) is request_


def test_offered_tools_go_with_all_that_belongs_to_them() -> None:
    less = without_offered_tools(ask(tools=[TOOL], tool_choice="auto", parallel_tool_calls=False))

    assert (less.tools, less.tool_choice, less.parallel_tool_calls) == (None, None, None)


def test_steps_are_taken_when_the_wait_is_longer() -> None:
    ladder = [Step(over_wait_s=0, tools=False), Step(over_wait_s=5, context_tokens=10)]

    assert [len(steps_for(ladder, wait_s)) for wait_s in (0, 0.1, 5, 6)] == [0, 1, 1, 2]


def busy_scene(degrade: list[dict[str, Any]], small: dict[str, Any] | None = None, **settings: Any) -> Scene:
    """One slot, which is taken; `small` is another model, on a route of its own."""
    return scene(
        {"a": ScriptedEngine(says(HANG), says("large")), "b": ScriptedEngine(says("small"))},
        settings={"a": {"slots": 1, "max_wait_s": 1000}, "b": small or {}},
        models={MODEL: {"routes": ["a"], "degrade": degrade, **settings}, "small": {"routes": ["b"]}},
    )


def told_under_load(of: Scene, request: CompletionRequest) -> Told:
    """One that comes while the only slot has been held for ten seconds."""

    async def come() -> Told:
        holding = await of.gateway.complete(ask())
        await asyncio.sleep(10)
        coming = asyncio.create_task(complete(of.gateway, request))
        await asyncio.sleep(0.1)
        await holding.aclose()
        return await coming

    return run_instantly(come())


def degraded(told: Told) -> list[str]:
    assert isinstance(told.events[0], Started)
    return told.events[0].degraded


def test_under_load_another_model_serves_and_the_response_says_so() -> None:
    of = busy_scene([{"over_wait_s": 5, "model": "small"}])

    told = told_under_load(of, ask())

    assert told.text == "small"
    assert degraded(told) == ["model:small"]
    assert of.bills.degradations == [(MODEL, "model:small")]


def test_without_load_nothing_is_left_out() -> None:
    of = busy_scene([{"over_wait_s": 5, "model": "small"}])

    async def come() -> Told:
        holding = await of.gateway.complete(ask())
        await holding.aclose()
        return await complete(of.gateway, ask())

    told = run_instantly(come())

    assert (told.text, degraded(told)) == ("large", [])


@pytest.mark.parametrize(
    ("small", "request_"),
    [
        ({"abilities": []}, ask(tools=[TOOL], tool_choice="required")),
        ({"context_length": 100}, ask(messages=[said("user", "x" * 200)])),
        ({"context_length": 300}, ask(messages=[said("user", "x" * 200)], max_tokens=150)),
    ],
    ids=["it has no tools", "the prompt is too long", "the answer is too long"],
)
def test_a_model_that_cannot_serve_the_request_is_no_step(
    small: dict[str, Any], request_: CompletionRequest
) -> None:
    told = told_under_load(busy_scene([{"over_wait_s": 5, "model": "small"}], small), request_)

    assert (told.text, degraded(told)) == ("large", [])


def test_tools_that_were_not_offered_are_not_said_to_be_missing() -> None:
    ladder = [{"over_wait_s": 1, "tools": False, "context_tokens": 5}]
    messages = [said("user", "long ago"), said("assistant", "yes"), said("user", "now")]

    told = told_under_load(busy_scene(ladder), ask(messages=messages))

    assert degraded(told) == ["context:5"]


def test_an_engine_that_cannot_count_is_no_reason_to_fail() -> None:
    of = busy_scene([{"over_wait_s": 1, "tools": False, "context_tokens": 5}])
    of.engines["http://a-0"].is_well = False

    told = told_under_load(of, ask(tools=[TOOL]))

    assert (told.text, degraded(told)) == ("large", ["tools_off"])
