"""The gateway's events as the Messages API tells them: a stream of server-sent events, or one message.

A stream is `message_start (content_block_start content_block_delta* content_block_stop)* message_delta
message_stop`, with `ping` anywhere and `error` as the end of one that broke.
"""

from collections.abc import Mapping

import msgspec

from triplane.domain import errors
from triplane.domain.anthropic.wire import (
    ErrorFields,
    StopReason,
    TextBlock,
    ToolUseBlock,
    WholeMessage,
    WireError,
    WireUsage,
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

PING = b'event: ping\ndata: {"type":"ping"}\n\n'

TOO_LONG = "prompt is too long"

_STOP_REASONS: Mapping[FinishReason, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}

# Looked up along the error's class hierarchy.
_ERROR_TYPES: Mapping[type[BaseException], str] = {
    errors.TriplaneError: "api_error",
    errors.Refused: "invalid_request_error",
    errors.BodyTooLarge: "request_too_large",
    errors.Unauthenticated: "authentication_error",
    errors.Forbidden: "permission_error",
    errors.NotFound: "not_found_error",
    errors.RateLimited: "rate_limit_error",
    errors.Overloaded: "overloaded_error",
    errors.FirstTokenTimeout: "timeout_error",
    errors.StreamStalled: "timeout_error",
}

_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b}}\n\n'
)
"""Put together from bytes, because a stream is mostly this."""

_encode = msgspec.json.encode


def present_messages_error(error: errors.TriplaneError, request_id: str | None = None) -> WireError:
    """The error in the API's shape. Its HTTP status is the one that the error has everywhere.

    The API has no code for a prompt that is too long: clients know it by how its message begins.
    """
    kind = next(_ERROR_TYPES[cls] for cls in type(error).__mro__ if cls in _ERROR_TYPES)
    message = error.message
    if isinstance(error, errors.ContextTooLong) and not message.startswith(TOO_LONG):
        message = f"{TOO_LONG}: {message}"
    return WireError(error=ErrorFields(type=kind, message=message), request_id=request_id)


def messages_usage(usage: Usage) -> WireUsage:
    """Counts as this API has them: what came from the cache stands beside the input, not in it."""
    return WireUsage(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        output_tokens=usage.completion_tokens,
        cache_creation_input_tokens=0,
        cache_read_input_tokens=usage.cached_tokens,
    )


class MessagesEncoder:
    """The frames of one stream. Blocks come one after another: a call that goes on behind another's
    beginning can't be told, and ends the stream with an error.
    """

    def __init__(self, message_id: str, model: str) -> None:
        self._message_id = message_id
        self._model = model
        self._is_over = False
        self._blocks = 0
        self._open: str | int | None = None
        self._done: set[int] = set()

    def encode(self, event: EngineEvent) -> bytes:
        """The frames that tell this event; none behind the end."""
        if self._is_over:
            return b""
        if isinstance(event, Delta):
            return self._text(event)
        if isinstance(event, ToolCallDelta):
            return self._call(event)
        if isinstance(event, Started):
            return self._start()
        if isinstance(event, Finished):
            return self._finish(event)
        return self._fail(event)

    def error(self, error: errors.TriplaneError) -> bytes:
        """The frame that ends a stream for a reason of ours."""
        self._is_over = True
        return _frame("error", present_messages_error(error))

    def _start(self) -> bytes:
        message = WholeMessage(
            id=self._message_id,
            model=self._model,
            content=[],
            stop_reason=None,
            usage=messages_usage(Usage()),
        )
        return _frame("message_start", {"type": "message_start", "message": message})

    def _text(self, event: Delta) -> bytes:
        if not event.text:
            return b""
        opening = self._switch("text", TextBlock(text=""))
        return opening + self._delta(b'"text_delta","text":' + _encode(event.text))

    def _call(self, event: ToolCallDelta) -> bytes:
        if event.index in self._done:
            return self.error(errors.EngineFailed("The engine's tool calls came in one another's way."))
        opening = b""
        if self._open != event.index:
            block = ToolUseBlock(id=event.id or "", name=event.name or "", input=msgspec.Raw(b"{}"))
            opening = self._switch(event.index, block)
        if not event.arguments:
            return opening
        return opening + self._delta(b'"input_json_delta","partial_json":' + _encode(event.arguments))

    def _delta(self, fields: bytes) -> bytes:
        return _DELTA % (self._blocks - 1, fields)

    def _switch(self, to: str | int, block: TextBlock | ToolUseBlock) -> bytes:
        """Close the open block and begin this one, unless it is the open one."""
        if self._open == to:
            return b""
        closing = self._close()
        self._open = to
        self._blocks += 1
        start = {"type": "content_block_start", "index": self._blocks - 1, "content_block": block}
        return closing + _frame("content_block_start", start)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        if isinstance(self._open, int):
            self._done.add(self._open)
        self._open = None
        return _frame("content_block_stop", {"type": "content_block_stop", "index": self._blocks - 1})

    def _finish(self, event: Finished) -> bytes:
        self._is_over = True
        delta = {
            "type": "message_delta",
            "delta": {"stop_reason": _STOP_REASONS[event.reason], "stop_sequence": None},
            "usage": messages_usage(event.usage),
        }
        stop = _frame("message_stop", {"type": "message_stop"})
        return self._close() + _frame("message_delta", delta) + stop

    def _fail(self, event: Failed) -> bytes:
        return self.error(errors.error_from_code(event.code, event.message))


class MessagesCollector:
    """A whole message out of the events of a completion."""

    def __init__(self, message_id: str, model: str) -> None:
        self._message_id = message_id
        self._model = model
        self._texts: list[str] = []
        self._calls: dict[int, tuple[str, str, list[str]]] = {}

    def add(self, event: EngineEvent) -> WholeMessage | None:
        """The message, once it is whole. Raises the TriplaneError that the completion has failed with."""
        if isinstance(event, Delta):
            self._texts.append(event.text)
        elif isinstance(event, ToolCallDelta):
            call = self._calls.setdefault(event.index, (event.id or "", event.name or "", []))
            call[2].append(event.arguments)
        elif isinstance(event, Failed):
            raise errors.error_from_code(event.code, event.message)
        elif isinstance(event, Finished):
            return self._message(event)
        return None

    def _message(self, event: Finished) -> WholeMessage:
        text = "".join(self._texts)
        content: list[TextBlock | ToolUseBlock] = [TextBlock(text=text)] if text else []
        for id_, name, arguments in self._calls.values():
            content.append(ToolUseBlock(id=id_, name=name, input=object_text("".join(arguments))))
        return WholeMessage(
            id=self._message_id,
            model=self._model,
            content=content,
            stop_reason=_STOP_REASONS[event.reason],
            usage=messages_usage(event.usage),
        )


def object_text(arguments: str) -> msgspec.Raw:
    """A call's arguments as the object that they have to be; what is cut off or no object is an empty one."""
    try:
        is_object = isinstance(msgspec.json.decode(arguments), dict)
    except msgspec.DecodeError:
        is_object = False
    return msgspec.Raw(arguments.strip().encode() if is_object else b"{}")


def _frame(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(data))
