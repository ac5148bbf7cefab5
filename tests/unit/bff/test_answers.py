"""Answers on OpenAI's wire, chunk by chunk and whole."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triplane.domain.errors import FirstTokenTimeout, Overloaded
from triplane.domain.events import (
    Delta,
    EngineEvent,
    Failed,
    Finished,
    LogEntry,
    Started,
    ToolCallDelta,
    TurnEnded,
    TurnError,
    TurnEvent,
    TurnStarted,
    Usage,
)
from triplane.orchestration.bff.answers import collect_turn, identity_of_turn, stream_turn
from triplane.wire.answers import ChunkEncoder, Identity, collect_completion, stream_completion

IDENTITY = Identity(id="chatcmpl-1", created=1, model="model")
TURN = identity_of_turn("turn_1", "conv_1", "msg_1", "model", datetime(2026, 11, 1, tzinfo=UTC))
USAGE = Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=4)
STARTED = Started(engine="engine", model="model")
TURN_STARTED = TurnStarted(
    turn_id="turn_1", conversation_id="conv_1", message_id="msg_1", model="model", created=1
)

Item = TypeVar("Item")


async def each(items: Sequence[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item


def data_of(frames: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in frames.split(b"\n") if line.startswith(b"data: ")]
    return ["[DONE]" if line == b"[DONE]" else msgspec.json.decode(line) for line in lines]


async def streamed(events: list[EngineEvent], include_usage: bool = False) -> list[Any]:
    frames = [frame async for frame in stream_completion(each(events), IDENTITY, include_usage)]
    return data_of(b"".join(frames))


def entries(events: list[TurnEvent]) -> AsyncIterator[LogEntry]:
    return each([LogEntry(position=place, event=event) for place, event in enumerate(events, start=1)])


async def test_a_stream_is_role_then_content_then_reason_then_done() -> None:
    chunks = await streamed([STARTED, Delta(text="Hi"), Finished(reason="stop", usage=USAGE)])
    assert chunks[-1] == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "Hi"}, {}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, "stop"]
    assert {chunk["object"] for chunk in chunks[:-1]} == {"chat.completion.chunk"}


async def test_the_usage_chunk_comes_last_and_has_no_choices() -> None:
    chunks = await streamed([Finished(reason="length", usage=USAGE)], include_usage=True)
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


@given(text=st.text())
def test_any_text_survives_the_quick_way_of_encoding(text: str) -> None:
    (chunk,) = data_of(ChunkEncoder(IDENTITY, include_usage=False).delta(Delta(text=text)))
    assert chunk["choices"][0]["delta"] == {"content": text}


async def test_tool_calls_keep_their_index_and_type() -> None:
    chunks = await streamed([ToolCallDelta(index=1, id="call_1", name="look", arguments="{")])
    assert chunks[1]["choices"][0]["delta"]["tool_calls"] == [
        {"index": 1, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{"}}
    ]


async def test_a_failure_after_the_first_byte_is_an_event() -> None:
    failed = Failed(code="stream_stalled", message="It stalled.", retryable=True)
    chunks = await streamed([STARTED, Delta(text="Hi"), failed])
    assert chunks[-2]["error"]["code"] == "stream_stalled"
    assert chunks[-1] == "[DONE]"


async def test_a_turns_events_carry_their_positions_and_ids() -> None:
    ended = TurnEnded(status="stopped", usage=USAGE)
    events: list[TurnEvent] = [TURN_STARTED, Delta(text="Hi"), ended]
    frames = [frame async for frame in stream_turn(entries(events), TURN, False)]
    assert [frame.split(b"\n")[0] for frame in frames[:-1]] == [b"id: 1", b"id: 2", b"id: 3"]
    first, *_, last = data_of(b"".join(frames))[:-1]
    assert (first["turn_id"], first["conversation_id"], first["message_id"]) == ("turn_1", "conv_1", "msg_1")
    assert (last["status"], last["choices"][0]["finish_reason"]) == ("stopped", "stop")


async def test_a_whole_answer_has_its_text_and_usage() -> None:
    answer = await collect_completion(
        each([STARTED, Delta(text="Hel"), Delta(text="lo"), Finished(reason="stop", usage=USAGE)]), IDENTITY
    )
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage.total_tokens == 7


async def test_a_whole_answer_with_tool_calls_alone_has_no_content() -> None:
    answer = await collect_completion(
        each(
            [
                ToolCallDelta(index=0, id="call_1", name="f", arguments="{}"),
                Finished(reason="tool_calls", usage=USAGE),
            ]
        ),
        IDENTITY,
    )
    assert answer.choices[0].message.content is None
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_a_failed_turn_raises_the_error_of_its_code() -> None:
    ended = TurnEnded(status="failed", error=TurnError(code="first_token_timeout", message="Too slow."))
    with pytest.raises(FirstTokenTimeout, match="Too slow"):
        await collect_turn(entries([ended]), TURN)


async def test_a_busy_engine_keeps_its_class_through_a_stream() -> None:
    failed = Failed(code="overloaded", message="Full.", retryable=True)
    with pytest.raises(Overloaded):
        await collect_completion(each([failed]), IDENTITY)
