"""Answers on OpenAI's wire: frames and whole answers, from a completion's events."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import msgspec

from triplane.domain.answer import GrowingAnswer
from triplane.domain.errors import EngineFailed, TriplaneError, error_from_code
from triplane.domain.events import (
    Delta,
    EngineEvent,
    Failed,
    Finished,
    FinishReason,
    Started,
    ToolCallDelta,
    TurnStarted,
    TurnStatus,
    Usage,
)
from triplane.wire.chat_completions import (
    AnswerMessage,
    ChatCompletion,
    Choice,
    Chunk,
    ChunkChoice,
    ChunkDelta,
    FunctionDelta,
    Logprobs,
    ToolCallChunk,
    present_usage,
)
from triplane.wire.errors import present_error

DONE = b"data: [DONE]\n\n"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What every chunk of one answer repeats. The last three are a turn's only."""

    id: str
    created: int
    model: str
    conversation_id: str | msgspec.UnsetType = msgspec.UNSET
    turn_id: str | msgspec.UnsetType = msgspec.UNSET
    message_id: str | msgspec.UnsetType = msgspec.UNSET


class ChunkEncoder:
    """Encodes the chunks of one answer. What doesn't change from chunk to chunk is encoded once."""

    def __init__(self, identity: Identity, include_usage: bool) -> None:
        self._identity = identity
        self._include_usage = include_usage
        mark = "\x01"
        whole = self._encode(ChunkChoice(delta=ChunkDelta(content=mark)))
        self._before_text, self._after_text = whole.split(msgspec.json.encode(mark))

    def role(self, started: Started | TurnStarted | None = None) -> bytes:
        """The first chunk; what is to be told of how the answer came about is in it."""
        return self._first(ChunkDelta(role="assistant", content=""), started)

    def started(self, started: Started) -> bytes:
        """What became known behind the first chunk, if it is to be told."""
        return self._first(ChunkDelta(), started) if started.degraded or started.is_cached else b""

    def nothing(self) -> bytes:
        """An empty delta: the answer is whole but not stored yet, and only the position moves on.

        It has data, because OpenAI's client for Python takes an `id:` line alone for broken JSON.
        """
        return self._encode(ChunkChoice(delta=ChunkDelta()))

    def delta(self, delta: Delta) -> bytes:
        if delta.logprobs is None:
            return self._before_text + msgspec.json.encode(delta.text) + self._after_text
        return self._encode(
            ChunkChoice(delta=ChunkDelta(content=delta.text), logprobs=Logprobs(content=delta.logprobs))
        )

    def tool_call(self, piece: ToolCallDelta) -> bytes:
        function = FunctionDelta(name=piece.name, arguments=piece.arguments)
        kind: Any = "function" if piece.id else None
        call = ToolCallChunk(index=piece.index, id=piece.id, type=kind, function=function)
        return self._encode(ChunkChoice(delta=ChunkDelta(tool_calls=[call])))

    def end(self, reason: FinishReason, usage: Usage, status: TurnStatus | None = None) -> bytes:
        """The chunk with `finish_reason`, and the one with the usage if it was asked for."""
        frames = self._encode(ChunkChoice(delta=ChunkDelta(), finish_reason=reason), status)
        if not self._include_usage:
            return frames
        return frames + _frame(self._chunk([], usage=usage))

    def _first(self, delta: ChunkDelta, started: Started | TurnStarted | None) -> bytes:
        chunk = self._chunk([ChunkChoice(delta=delta)])
        if started is not None:
            chunk = msgspec.structs.replace(
                chunk, degraded=started.degraded or msgspec.UNSET, cached=started.is_cached or msgspec.UNSET
            )
        return _frame(chunk)

    def _encode(self, choice: ChunkChoice, status: TurnStatus | None = None) -> bytes:
        return _frame(self._chunk([choice], status=status))

    def _chunk(
        self, choices: list[ChunkChoice], usage: Usage | None = None, status: TurnStatus | None = None
    ) -> Chunk:
        same = self._identity
        return Chunk(
            id=same.id,
            created=same.created,
            model=same.model,
            choices=choices,
            usage=present_usage(usage) if usage else msgspec.UNSET,
            conversation_id=same.conversation_id,
            turn_id=same.turn_id,
            message_id=same.message_id,
            status=status or msgspec.UNSET,
        )


def _frame(chunk: Chunk) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def error_frame(error: TriplaneError) -> bytes:
    """An error after the first byte: the only way left to tell of it."""
    return b"data: " + msgspec.json.encode(present_error(error)) + b"\n\n"


async def stream_completion(
    events: AsyncIterable[EngineEvent], identity: Identity, include_usage: bool
) -> AsyncIterator[bytes]:
    """The frames of a stateless answer."""
    encoder = ChunkEncoder(identity, include_usage)
    yield encoder.role()
    async for event in events:
        match event:
            case Started():
                if frame := encoder.started(event):
                    yield frame
            case Delta():
                yield encoder.delta(event)
            case ToolCallDelta():
                yield encoder.tool_call(event)
            case Finished(reason=reason, usage=usage):
                yield encoder.end(reason, usage)
            case Failed(code=code, message=message):
                yield error_frame(error_from_code(code, message))
    yield DONE


def present_answer(
    answer: GrowingAnswer,
    identity: Identity,
    reason: FinishReason,
    usage: Usage,
    status: TurnStatus | None,
    started: Started | TurnStarted | None = None,
) -> ChatCompletion:
    """The whole answer, `chat.completion`."""
    message = AnswerMessage(
        content=answer.text if answer.text or not answer.tool_calls else None,
        tool_calls=answer.tool_calls or msgspec.UNSET,
    )
    logprobs = Logprobs(content=answer.logprobs) if answer.logprobs else None
    return ChatCompletion(
        id=identity.id,
        created=identity.created,
        model=identity.model,
        choices=[Choice(message=message, finish_reason=reason, logprobs=logprobs)],
        usage=present_usage(usage),
        degraded=(started.degraded if started else None) or msgspec.UNSET,
        cached=(started.is_cached if started else False) or msgspec.UNSET,
        conversation_id=identity.conversation_id,
        turn_id=identity.turn_id,
        message_id=identity.message_id,
        status=status or msgspec.UNSET,
    )


async def collect_completion(events: AsyncIterable[EngineEvent], identity: Identity) -> ChatCompletion:
    """The whole answer of a stateless completion. Raises what the engine failed with."""
    answer = GrowingAnswer()
    started: Started | None = None
    async for event in events:
        if isinstance(event, Started):
            started = event
        if isinstance(event, Finished):
            return present_answer(answer, identity, event.reason, event.usage, None, started)
        if isinstance(event, Failed):
            raise error_from_code(event.code, event.message)
        answer.add(event)
    raise EngineFailed("The engine's answer broke off. Send the request again.")
