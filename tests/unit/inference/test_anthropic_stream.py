"""Streams of the Messages API: what they are read as, and that we write what we read."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triplane.domain.anthropic.answers import MessagesCollector, MessagesEncoder, present_messages_error
from triplane.domain.anthropic.wire import TextBlock, ToolUseBlock, WholeMessage
from triplane.domain.errors import (
    ContextTooLong,
    EngineFailed,
    FirstTokenTimeout,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    RateLimited,
    TriplaneError,
)
from triplane.domain.events import (
    Delta,
    EngineEvent,
    Failed,
    Finished,
    FinishReason,
    Started,
    ToolCallDelta,
    Usage,
)
from triplane.inference.engines.anthropic_reader import MessagesReader

FIXTURES = Path(__file__).parents[2] / "fixtures" / "wire" / "messages"
STARTED = Started(engine="e", model="m")


def read(wire: bytes, already_shown: str = "", size: int = 2**20) -> list[EngineEvent]:
    reader = MessagesReader("m", already_shown)
    pieces = [wire[at : at + size] for at in range(0, len(wire), size)]
    return [event for piece in pieces for event in reader.feed(piece)]


def text_in(events: list[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def calls_in(events: list[EngineEvent]) -> list[tuple[str | None, str | None, str]]:
    found: dict[int, tuple[str | None, str | None, str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            id_, name, arguments = found.get(event.index, (event.id, event.name, ""))
            found[event.index] = (id_, name, arguments + event.arguments)
    return list(found.values())


def text_stream(*texts: str) -> bytes:
    encoder = MessagesEncoder("msg_1", "m")
    events: list[EngineEvent] = [STARTED, *(Delta(text=text) for text in texts)]
    return b"".join(encoder.encode(event) for event in [*events, Finished(reason="stop", usage=Usage())])


@pytest.mark.parametrize("size", [1, 7, 2**20])
def test_text_comes_with_what_the_cache_has_saved(size: int) -> None:
    events = read((FIXTURES / "text.sse").read_bytes(), size=size)

    usage = Usage(prompt_tokens=12 + 30 + 2048, completion_tokens=17, cached_tokens=2048)
    assert text_in(events) == "Grüß Gott,\n\n“世界” 👋"
    assert events[-1] == Finished(reason="stop", usage=usage)


@pytest.mark.parametrize("size", [1, 7, 2**20])
def test_tool_calls_come_in_their_order_and_one_without_arguments_has_an_empty_object(size: int) -> None:
    events = read((FIXTURES / "tools.sse").read_bytes(), size=size)

    assert text_in(events) == "Let me look."
    assert calls_in(events) == [
        ("toolu_01", "get_weather", '{"city": "Bonn"}'),
        ("toolu_02", "get_time", "{}"),
    ]
    assert events[-1] == Finished(reason="tool_calls", usage=Usage(prompt_tokens=472, completion_tokens=89))


def test_blocks_and_events_of_kinds_that_are_not_known_are_passed_over() -> None:
    events = read((FIXTURES / "unknown-kinds.sse").read_bytes())

    assert text_in(events) == "27."
    assert events[-1] == Finished(reason="length", usage=Usage(prompt_tokens=20, completion_tokens=9))


def test_an_overload_in_the_middle_is_raised_behind_the_text_and_what_it_cost_is_known() -> None:
    reader = MessagesReader("m")

    events = reader.feed((FIXTURES / "overloaded.sse").read_bytes())

    assert text_in(events) == "Once upon a time"
    with pytest.raises(Overloaded):
        reader.feed(b"")
    assert reader.usage == Usage(prompt_tokens=20, completion_tokens=4)
    assert reader.model == "claude-sonnet-4-5-20250929"


@pytest.mark.parametrize(
    ("shown", "comes", "new"),
    [
        (" ", [" World"], "World"),
        (" ", ["World"], "World"),
        ("\n\n", ["\n", "\n", "- x"], "- x"),
        ("\n\n", ["\n- x"], "- x"),
        (" ", ["\n- x"], "\n- x"),
        ("\n", ["\n\n", "  x"], "\n  x"),
        (" \n", [" ", "\t", "\n"], "\t\n"),
        ("", [" x"], " x"),
    ],
)
def test_whitespace_that_was_cut_off_a_prefill_is_shown_once(shown: str, comes: list[str], new: str) -> None:
    assert text_in(read(text_stream(*comes), already_shown=shown)) == new


@settings(deadline=None)
@given(st.text(), st.text("\n \t", max_size=4), st.lists(st.text("\n \tab", max_size=3), max_size=5))
def test_a_continued_answer_loses_nothing_but_whitespace_that_is_there(
    text: str, whitespace: str, pieces: list[str]
) -> None:
    """Whatever is continued and however it comes, the whole is `text`, its whitespace, and then the rest."""
    comes = "".join(pieces)

    new = text_in(read(text_stream(*pieces), already_shown=whitespace))

    assert comes.endswith(new)
    assert whitespace.startswith(comes[: len(comes) - len(new)])
    assert (text + whitespace + new).startswith(text + whitespace)


# Event streams both ways.

REASONS: st.SearchStrategy[FinishReason] = st.sampled_from(["stop", "length", "content_filter"])
TEXTS = st.text(min_size=1).map(lambda text: Delta(text=text))
USAGES = st.builds(
    lambda prompt, cached, completion: Usage(
        prompt_tokens=prompt + cached, cached_tokens=cached, completion_tokens=completion
    ),
    *(st.integers(0, 10**6) for _ in "abc"),
)


@st.composite
def event_streams(draw: st.DrawFn) -> list[EngineEvent]:
    """Text, then calls one after another: what engines send."""
    events: list[EngineEvent] = [*draw(st.lists(TEXTS, max_size=6))]
    calls = draw(st.integers(0, 3))
    for index in range(calls):
        events.append(ToolCallDelta(index=index, id=f"call_{index}", name=draw(st.sampled_from("fgh"))))
        arguments = msgspec.json.encode(draw(st.dictionaries(st.text(), st.integers(), max_size=3))).decode()
        cut = draw(st.integers(0, len(arguments)))
        pieces = [piece for piece in (arguments[:cut], arguments[cut:]) if piece]
        events += [ToolCallDelta(index=index, arguments=piece) for piece in pieces]
    reason: FinishReason = "tool_calls" if calls else draw(REASONS)
    return [*events, Finished(reason=reason, usage=draw(USAGES))]


@settings(deadline=None)
@given(event_streams(), st.integers(1, 50))
def test_what_the_encoder_writes_is_read_as_what_it_was(events: list[EngineEvent], size: int) -> None:
    encoder = MessagesEncoder("msg_1", "m")
    wire = b"".join(encoder.encode(event) for event in [STARTED, *events])

    again = read(wire, size=size)

    assert text_in(again) == text_in(events)
    assert calls_in(again) == calls_in(events)
    assert again[-1] == events[-1]


@settings(deadline=None)
@given(event_streams())
def test_a_whole_message_says_what_the_stream_says(events: list[EngineEvent]) -> None:
    collector = MessagesCollector("msg_1", "m")
    *before, message = [collector.add(event) for event in [STARTED, *events]]

    assert before == [None] * len(events)
    assert isinstance(message, WholeMessage)
    assert "".join(block.text for block in message.content if isinstance(block, TextBlock)) == text_in(events)
    inputs = [bytes(block.input) for block in message.content if isinstance(block, ToolUseBlock)]
    assert [msgspec.json.decode(text) for text in inputs] == [
        msgspec.json.decode(arguments) for _, _, arguments in calls_in(events)
    ]


def test_text_around_a_call_opens_a_block_of_its_own() -> None:
    encoder = MessagesEncoder("msg_1", "m")
    events: list[EngineEvent] = [
        Delta(text="a"),
        ToolCallDelta(index=0, id="call_1", name="f", arguments="{}"),
        Delta(text=""),
        Delta(text="b"),
    ]

    names = [
        line.removeprefix(b"event: content_block_").decode()
        for event in events
        for line in encoder.encode(event).splitlines()
        if line.startswith(b"event: ")
    ]

    assert names == ["start", "delta", "stop", "start", "delta", "stop", "start", "delta"]


def test_calls_in_one_anothers_way_end_the_stream_with_an_error() -> None:
    encoder = MessagesEncoder("msg_1", "m")
    encoder.encode(ToolCallDelta(index=0, id="call_1", name="f"))
    encoder.encode(ToolCallDelta(index=1, id="call_2", name="f"))

    frame = encoder.encode(ToolCallDelta(index=0, arguments="{}"))

    assert frame.startswith(b"event: error\n")
    assert encoder.encode(Delta(text="more")) == b""


def test_a_failure_is_an_error_event_and_of_a_whole_message_an_error() -> None:
    failed = Failed(code="overloaded", message="Busy.", retryable=True)

    frame = MessagesEncoder("msg_1", "m").encode(failed)

    assert b'"type":"overloaded_error","message":"Busy."' in frame
    with pytest.raises(Overloaded):
        MessagesCollector("msg_1", "m").add(failed)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("what?"), "invalid_request_error"),
        (ModelNotFound("which?"), "not_found_error"),
        (RateLimited("slow", retry_after_s=1), "rate_limit_error"),
        (Overloaded("busy", retry_after_s=1), "overloaded_error"),
        (FirstTokenTimeout("late"), "timeout_error"),
        (EngineFailed("broken"), "api_error"),
    ],
)
def test_every_error_has_a_type_of_the_api(error: TriplaneError, kind: str) -> None:
    shown = msgspec.json.decode(msgspec.json.encode(present_messages_error(error, "req_1")))

    assert shown == {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": "req_1",
    }


def test_a_prompt_that_is_too_long_is_known_by_its_message() -> None:
    shown = present_messages_error(ContextTooLong("It has 9 tokens of 5."))

    assert shown.error.message == "prompt is too long: It has 9 tokens of 5."
