"""The wires that a completion can be asked for on: OpenAI's chat completions, Anthropic's Messages."""

import time
from collections.abc import AsyncIterable
from typing import Protocol

import msgspec

from triplane.domain.anthropic.answers import MessagesCollector, MessagesEncoder, present_messages_error
from triplane.domain.anthropic.requests import parse_messages_request
from triplane.domain.completion import CompletionRequest, Flow
from triplane.domain.errors import EngineFailed, TriplaneError, UnsupportedParameter
from triplane.domain.events import Delta, EngineEvent, Finished, ToolCallDelta
from triplane.wire.answers import DONE, ChunkEncoder, Identity, collect_completion, error_frame
from triplane.wire.chat_completions import (
    ChatCompletionRequest,
    completion_request,
    parse_messages,
    require_consistent,
)
from triplane.wire.errors import present_error
from triplane.wire.strict_json import decode_strictly

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"

PRODUCT_FIELDS = ("conversation_id", "request_id", "background", "parent_id", "expected_parent")
"""What only the product's own face knows."""

_encode = msgspec.json.Encoder().encode


class Asked(Protocol):
    """A request, and how its answer is told. `first` and `last` stand around the frames of a stream."""

    request: CompletionRequest
    stream: bool
    first: bytes
    last: bytes

    def delta(self, delta: Delta) -> bytes: ...

    def tell(self, event: EngineEvent) -> bytes:
        """The frames of any event but `Delta` and `Failed`; none if it has none."""
        ...

    def error(self, error: TriplaneError) -> bytes:
        """The frame of an error that ends a stream."""
        ...

    async def whole(self, events: AsyncIterable[EngineEvent]) -> bytes:
        """The whole answer. Raises what it failed with."""
        ...


def read_request(path: str, body: bytes, flow: Flow, request_id: str) -> Asked:
    """The request in this body, by the wire of its path. Raises InvalidRequest."""
    return (_Messages if path == MESSAGES else _Chat)(body, flow, request_id)


def error_body(path: str, error: TriplaneError, request_id: str) -> bytes:
    if path in (MESSAGES, COUNT_TOKENS):
        return _encode(present_messages_error(error, request_id))
    return _encode(present_error(error))


class _Chat:
    last = DONE

    def __init__(self, body: bytes, flow: Flow, request_id: str) -> None:
        asked = decode_strictly(body, ChatCompletionRequest)
        for name in PRODUCT_FIELDS:
            if getattr(asked, name) not in (None, msgspec.UNSET):
                raise UnsupportedParameter(
                    f"{name}: this gateway keeps no conversations; send the whole history.", param=name
                )
        require_consistent(asked)
        self.request = completion_request(
            asked, parse_messages(asked.messages), request_id=request_id, cache_salt=flow.tenant, flow=flow
        )
        self.stream = bool(asked.stream)
        self._identity = Identity(
            id="chatcmpl-" + request_id.removeprefix("req_"), created=int(time.time()), model=asked.model
        )
        options = asked.stream_options
        self._encoder = ChunkEncoder(self._identity, options is not None and options.include_usage)
        self.first = self._encoder.role()
        self.delta = self._encoder.delta

    def tell(self, event: EngineEvent) -> bytes:
        if isinstance(event, ToolCallDelta):
            return self._encoder.tool_call(event)
        return self._encoder.end(event.reason, event.usage) if isinstance(event, Finished) else b""

    def error(self, error: TriplaneError) -> bytes:
        return error_frame(error)

    async def whole(self, events: AsyncIterable[EngineEvent]) -> bytes:
        return _encode(await collect_completion(events, self._identity))


class _Messages:
    first = last = b""

    def __init__(self, body: bytes, flow: Flow, request_id: str) -> None:
        asked = parse_messages_request(body, request_id)
        self.request = msgspec.structs.replace(asked.completion, flow=flow, cache_salt=flow.tenant)
        self.stream = asked.stream
        self._named = "msg_" + request_id.removeprefix("req_"), self.request.model
        encoder = MessagesEncoder(*self._named)
        self.delta = self.tell = encoder.encode
        self.error = encoder.error

    async def whole(self, events: AsyncIterable[EngineEvent]) -> bytes:
        collector = MessagesCollector(*self._named)
        async for event in events:
            if message := collector.add(event):
                return _encode(message)
        raise EngineFailed("The engine's answer broke off. Send the request again.")
