"""A turn's answer on OpenAI's wire: frames and whole answers, from its replay log."""

from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime
from typing import assert_never

from triplane.domain.answer import GrowingAnswer
from triplane.domain.errors import StoreUnavailable, error_from_code
from triplane.domain.events import (
    Delta,
    Finished,
    LogEntry,
    ToolCallDelta,
    TurnEnded,
    TurnError,
    TurnEvent,
    TurnStarted,
)
from triplane.wire.answers import DONE, ChunkEncoder, Identity, error_frame, present_answer
from triplane.wire.chat_completions import ChatCompletion


def identity_of_turn(
    turn_id: str, conversation_id: str, message_id: str, model: str, created_at: datetime
) -> Identity:
    return Identity(
        id="chatcmpl-" + turn_id.removeprefix("turn_"),
        created=int(created_at.timestamp()),
        model=model,
        conversation_id=conversation_id,
        turn_id=turn_id,
        message_id=message_id,
    )


async def stream_turn(
    entries: AsyncIterable[LogEntry], identity: Identity, include_usage: bool, *, is_continued: bool = False
) -> AsyncIterator[bytes]:
    """The frames of a turn, each with its position in the replay log as the event's id.

    A continuation begins as every answer does; in the log, its turn has started long ago.
    """
    encoder = ChunkEncoder(identity, include_usage)
    if is_continued:
        yield encoder.role()
    async for entry in entries:
        yield b"id: %d\n" % entry.position + _turn_frames(entry.event, encoder)
    yield DONE


def _turn_frames(event: TurnEvent, encoder: ChunkEncoder) -> bytes:
    match event:
        case TurnStarted():
            return encoder.role(event)
        case Delta():
            return encoder.delta(event)
        case ToolCallDelta():
            return encoder.tool_call(event)
        case Finished():
            return encoder.nothing()
        case TurnEnded(error=TurnError() as error):
            return error_frame(error_from_code(error.code, error.message))
        case TurnEnded():
            return encoder.end(event.finish_reason or "stop", event.usage, event.status)
        case _:
            assert_never(event)


async def collect_turn(entries: AsyncIterable[LogEntry], identity: Identity) -> ChatCompletion:
    """The whole answer of a turn. Raises what the turn failed with; its text so far is in the store."""
    answer = GrowingAnswer()
    started: TurnStarted | None = None
    async for entry in entries:
        event = entry.event
        if isinstance(event, TurnStarted):
            started = event
        if isinstance(event, TurnEnded):
            if event.error:
                raise error_from_code(event.error.code, event.error.message)
            reason = event.finish_reason or "stop"
            return present_answer(answer, identity, reason, event.usage, event.status, started)
        answer.add(event)
    raise StoreUnavailable("The turn can't be followed now. Ask for it again.")
