"""A stream of the Messages API read into events. Events and blocks of unknown kinds are passed over."""

from typing import Any

import msgspec

from triplane.domain.anthropic.answers import TOO_LONG
from triplane.domain.anthropic.wire import WireUsage
from triplane.domain.errors import (
    ContextTooLong,
    EngineFailed,
    EngineUnavailable,
    Overloaded,
    TriplaneError,
)
from triplane.domain.events import Delta, EngineEvent, FinishReason, ToolCallDelta, Usage
from triplane.domain.ids import new_id
from triplane.inference.engines.event_reader import EventReader
from triplane.inference.engines.http_engine import error_fields
from triplane.inference.engines.openai_wire import DEFAULT_RETRY_AFTER_S, refusal

CHARS_PER_TOKEN = 4
"""Of English text; for what a cancelled answer has cost, since a piece is of several tokens here."""

_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class BeginningMessage(msgspec.Struct):
    model: str = ""
    usage: WireUsage | None = None


class BeginningBlock(msgspec.Struct):
    type: str = ""
    text: str = ""
    id: str | None = None
    name: str | None = None
    input: Any = None


class BlockDelta(msgspec.Struct):
    """A piece of a block, or in `message_delta` the reason why the message ends."""

    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class StreamEvent(msgspec.Struct):
    """Any event of the stream; which fields it has depends on its `type`."""

    type: str
    index: int = 0
    message: BeginningMessage | None = None
    content_block: BeginningBlock | None = None
    delta: BlockDelta | None = None
    usage: WireUsage | None = None
    error: Any = None


class _Call:
    """A tool call on its way, at its place among the calls."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.has_arguments = False


class MessagesReader(EventReader):
    """`already_shown` is whitespace in front of what comes that the caller has from before."""

    def __init__(self, model: str, already_shown: str = "") -> None:
        super().__init__(model)
        self._decode = msgspec.json.Decoder(StreamEvent).decode
        self._already_shown = already_shown
        self._counts = WireUsage()
        self._chars = 0
        self._calls: dict[int, _Call] = {}

    @property
    def usage(self) -> Usage:
        """The engine's count; of the answer it comes last: until then it is guessed by the text's length."""
        counts = self._counts
        cached = counts.cache_read_input_tokens or 0
        written = counts.cache_creation_input_tokens or 0
        said = counts.output_tokens or 0
        guessed = -(-self._chars // CHARS_PER_TOKEN)
        return Usage(
            prompt_tokens=(counts.input_tokens or 0) + cached + written,
            completion_tokens=said if self.reason is not None else max(said, guessed),
            cached_tokens=cached,
        )

    def take_payload(self, payload: bytes, events: list[EngineEvent]) -> None:
        try:
            event = self._decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EngineFailed("The engine sent something that isn't a piece of an answer.") from error
        match event.type:
            case "content_block_delta":
                self._take_delta(event, events)
            case "content_block_start":
                self._take_block(event, events)
            case "content_block_stop":
                self._end_block(event.index, events)
            case "message_start":
                self._take_message(event.message or BeginningMessage())
            case "message_delta":
                self._take_end(event)
            case "message_stop":
                events.append(self.finish())
            case "error":
                fields = error_fields(event.error)
                raise messages_refusal(_STATUSES.get(str(fields.get("type")), 500), fields, None)

    def _take_message(self, message: BeginningMessage) -> None:
        self.model = message.model or self.model
        self._count(message.usage)

    def _take_block(self, event: StreamEvent, events: list[EngineEvent]) -> None:
        block = event.content_block or BeginningBlock()
        if block.text:
            self._show(block.text, events)
        if block.type != "tool_use":
            return
        call = self._calls[event.index] = _Call(len(self._calls))
        arguments = ""
        if block.input:
            call.has_arguments = True
            arguments = msgspec.json.encode(block.input).decode()
        events.append(
            ToolCallDelta(
                index=call.place, id=block.id or new_id("call"), name=block.name, arguments=arguments
            )
        )

    def _take_delta(self, event: StreamEvent, events: list[EngineEvent]) -> None:
        delta = event.delta or BlockDelta()
        if delta.type == "text_delta":
            self._show(delta.text, events)
        elif delta.type == "input_json_delta" and delta.partial_json:
            call = self._calls.get(event.index)
            if call is None:
                raise EngineFailed("The engine sent arguments of a tool call that it never began.")
            call.has_arguments = True
            self._chars += len(delta.partial_json)
            events.append(ToolCallDelta(index=call.place, arguments=delta.partial_json))

    def _end_block(self, index: int, events: list[EngineEvent]) -> None:
        """A call without arguments streams none: an empty object is meant."""
        call = self._calls.get(index)
        if call is not None and not call.has_arguments:
            call.has_arguments = True
            events.append(ToolCallDelta(index=call.place, arguments="{}"))

    def _show(self, text: str, events: list[EngineEvent]) -> None:
        self._chars += len(text)
        if self._already_shown:
            text = self._without_what_is_shown(text)
        if text:
            events.append(Delta(text=text))

    def _without_what_is_shown(self, text: str) -> str:
        shown = self._already_shown
        same = next((at for at, (a, b) in enumerate(zip(text, shown, strict=False)) if a != b), None)
        same = min(len(text), len(shown)) if same is None else same
        self._already_shown = shown[same:] if same == len(text) else ""
        return text[same:]

    def _take_end(self, event: StreamEvent) -> None:
        self._count(event.usage)
        if event.delta is not None and event.delta.stop_reason is not None:
            self.reason = _REASONS.get(event.delta.stop_reason, "stop")

    def _count(self, usage: WireUsage | None) -> None:
        """Later counts are of the whole message, and may leave out what hasn't changed."""
        for name in WireUsage.__struct_fields__ if usage is not None else ():
            count = getattr(usage, name)
            if count is not None:
                setattr(self._counts, name, count)


def messages_refusal(status: int, fields: dict[str, Any], retry_after_s: float | None) -> TriplaneError:
    """What an error of this API means; `type` says it where the status doesn't."""
    message = fields["message"]
    if status == 529 or fields.get("type") == "overloaded_error":
        wait_s = DEFAULT_RETRY_AFTER_S if retry_after_s is None else retry_after_s
        return Overloaded("The engine is busy. Try again a little later.", retry_after_s=wait_s)
    if status == 402 or "credit balance" in message:
        return EngineUnavailable("The engine refuses our account. Its operator has to look at its credit.")
    if status == 400 and (TOO_LONG in message or "exceed context limit" in message):
        return ContextTooLong(message, param="messages")
    if status == 404 and "model" not in message:
        return EngineUnavailable("The engine's address doesn't speak Messages: check its base URL.")
    return refusal(status, fields, retry_after_s)
