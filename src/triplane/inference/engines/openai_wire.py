"""OpenAI's chat completions as an engine speaks them: the request's body, the stream's chunks, the errors."""

from typing import Any, Generic, TypeVar

import msgspec

from triplane.domain.completion import CompletionRequest, ToolChoice
from triplane.domain.errors import (
    ContextTooLong,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    TriplaneError,
)
from triplane.domain.events import Delta, EngineEvent, FinishReason, Usage
from triplane.inference.engines.event_reader import EventReader
from triplane.inference.engines.http_engine import error_fields
from triplane.inference.engines.tool_arguments import ToolArguments

DEFAULT_RETRY_AFTER_S = 2.0

_TOO_LONG = ("maximum context length", "model's context length", "available context size")
"""How vLLM, SGLang and llama.cpp say that a prompt doesn't fit; their errors have no common code."""

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


# gc=False: what JSON makes has no cycles, and there is one of each for every token.
class WireFunction(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class WireToolCall(msgspec.Struct, gc=False):
    index: int = 0
    id: str | None = None
    function: WireFunction | None = None


class WireDelta(msgspec.Struct, gc=False):
    content: str | None = None
    tool_calls: list[WireToolCall] | None = None


class WireLogprobs(msgspec.Struct, gc=False):
    content: list[dict[str, Any]] | None = None


class WireChoice(msgspec.Struct, gc=False):
    delta: WireDelta | None = None
    finish_reason: str | None = None
    logprobs: WireLogprobs | None = None


class WirePromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class WireUsage(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: WirePromptDetails | None = None

    def as_usage(self) -> Usage:
        details = self.prompt_tokens_details
        return Usage(
            prompt_tokens=max(0, self.prompt_tokens),
            completion_tokens=max(0, self.completion_tokens),
            cached_tokens=max(0, (details.cached_tokens or 0) if details else 0),
        )


class Chunk(msgspec.Struct, gc=False):
    """One event of the stream. `error` may come instead of all else, as an object or as text."""

    choices: list[WireChoice] = []
    model: str = ""
    usage: WireUsage | None = None
    error: Any = None


USAGE_WITH_EVERY_CHUNK = {"include_usage": True, "continuous_usage_stats": True}
"""`stream_options` of vLLM and SGLang: what a call has cost is known also if it breaks off."""


def request_body(request: CompletionRequest, model: str) -> dict[str, Any]:
    """The body of a streaming request, every parameter in its place."""
    body: dict[str, Any] = {
        "model": model,
        "messages": request.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for name in request.sampling.__struct_fields__:
        value = getattr(request.sampling, name)
        if value is not None:
            body[name] = value
    if request.response_format is not None:
        body["response_format"] = request.response_format
    if request.tools and request.tool_choice != "none":
        body["tools"] = request.tools
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


def refusal(status: int, fields: dict[str, Any], retry_after_s: float | None) -> TriplaneError:
    """The error that an HTTP status with these error fields means."""
    message = fields["message"] or f"The engine answered with status {status}."
    if status == 429 or (status == 503 and retry_after_s is not None):
        return Overloaded(
            "The engine is busy. Try again a little later.",
            retry_after_s=DEFAULT_RETRY_AFTER_S if retry_after_s is None else retry_after_s,
        )
    if status in (401, 403):
        return EngineUnavailable("The engine refuses our key. Its operator has to set the right one.")
    if status == 404:
        return _not_found(fields)
    if fields.get("code") == "context_length_exceeded" or any(words in message for words in _TOO_LONG):
        return ContextTooLong(message, param="messages")
    if status in (400, 413, 422):
        param = fields.get("param")
        return InvalidRequest(message, param=param if isinstance(param, str) else None)
    if status == 503:
        return EngineUnavailable("The engine can't serve yet. Try again a little later.")
    return EngineFailed(f"The engine failed with status {status}.")


def _not_found(fields: dict[str, Any]) -> TriplaneError:
    if fields.get("code") == "model_not_found" or "model" in fields["message"].lower():
        return ModelNotFound("The engine doesn't serve this model.", param="model")
    return EngineUnavailable("The engine's address doesn't speak chat completions: check its base URL.")


ChunkT = TypeVar("ChunkT", bound=Chunk)


class ChunkReader(EventReader, Generic[ChunkT]):
    """The chunks of a chat completion. A kind of engine with more in its chunks overrides `take`.

    Of a call that `choice` has forced, the arguments have to be a JSON object.
    """

    def __init__(self, chunk_type: type[ChunkT], model: str, choice: ToolChoice | None = None) -> None:
        super().__init__(model)
        self._decode = msgspec.json.Decoder(chunk_type).decode
        self._usage: WireUsage | None = None
        self._deltas = 0
        self._arguments = ToolArguments(is_forced=choice not in (None, "auto", "none"))

    @property
    def usage(self) -> Usage:
        """The engine's own count if it has come, else one token for each delta so far."""
        return self._usage.as_usage() if self._usage else Usage(completion_tokens=self._deltas)

    def take_payload(self, payload: bytes, events: list[EngineEvent]) -> None:
        if payload == b"[DONE]":
            events.append(self.finish())
            return
        try:
            chunk = self._decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EngineFailed("The engine sent something that isn't a piece of an answer.") from error
        if chunk.error is not None:
            raise self.failure(error_fields(chunk.error))
        self.take(chunk, events)

    def failure(self, fields: dict[str, Any]) -> TriplaneError:
        """What an error inside the stream means."""
        code = fields.get("code")
        return refusal(code if isinstance(code, int) else 500, fields, None)

    def take(self, chunk: ChunkT, events: list[EngineEvent]) -> None:
        if chunk.model:
            self.model = chunk.model
        if chunk.usage is not None:
            self._usage = chunk.usage
        if not chunk.choices:
            return
        choice = chunk.choices[0]
        delta = choice.delta
        if delta is not None:
            if delta.content or choice.logprobs:
                self._deltas += 1
                self.take_text(delta.content or "", choice.logprobs, events)
            if delta.tool_calls:
                self._deltas += 1
                self._take_tool_calls(delta.tool_calls, events)
        if choice.finish_reason is not None:
            self.end(_REASONS.get(choice.finish_reason, "stop"), events)

    def take_text(self, text: str, logprobs: WireLogprobs | None, events: list[EngineEvent]) -> None:
        events.append(Delta(text=text, logprobs=logprobs.content if logprobs else None))

    def end(self, reason: FinishReason, events: list[EngineEvent]) -> None:
        """The engine gave its finish reason; usage and [DONE] follow."""
        self._arguments.end(reason, events)
        self.reason = "tool_calls" if self._arguments.has_calls and reason == "stop" else reason

    def _take_tool_calls(self, calls: list[WireToolCall], events: list[EngineEvent]) -> None:
        for call in calls:
            function = call.function or WireFunction()
            self._arguments.push(call.index, call.id, function.name, function.arguments or "", events)
