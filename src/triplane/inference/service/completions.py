"""`POST /v1/chat/completions` of the gateway: reserve, ask, relay, settle, write the bill."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from triplane.domain.completion import CompletionRequest, Flow
from triplane.domain.errors import EngineFailed, TriplaneError, UnsupportedParameter, error_from_code
from triplane.domain.events import Delta, EngineEvent, Failed, Finished, ToolCallDelta, Usage
from triplane.domain.money import EngineCall
from triplane.inference.gateway import Gateway
from triplane.inference.service.limiting import Limits, Reserved
from triplane.inference.service.reply import Reply
from triplane.inference.service.usage_log import Outcome, UsageLog, usage_line
from triplane.wire.answers import DONE, ChunkEncoder, Identity, collect_completion, error_frame
from triplane.wire.chat_completions import (
    ChatCompletionRequest,
    completion_request,
    parse_messages,
    require_consistent,
)
from triplane.wire.strict_json import decode_strictly

PRODUCT_FIELDS = ("conversation_id", "request_id", "background", "parent_id", "expected_parent")
"""What only the product's own face knows."""

_encode = msgspec.json.Encoder().encode


class Completion(Protocol):
    """A completion that runs, as the gateway gives it."""

    @property
    def usage(self) -> Usage: ...

    @property
    def engine(self) -> str: ...

    def __aiter__(self) -> AsyncIterator[EngineEvent]: ...

    async def aclose(self) -> None: ...


class Completions:
    def __init__(self, gateway: Gateway, limits: Limits, usage_log: UsageLog) -> None:
        self._gateway = gateway
        self._limits = limits
        self._usage_log = usage_log

    async def answer(self, flow: Flow, request_id: str, body: bytes, reply: Reply) -> str | None:
        """Answer; the code of the error that a stream broke with, if one did.

        Raises TriplaneError while it can still be told with a status.
        """
        asked = decode_strictly(body, ChatCompletionRequest)
        request = _request(asked, flow, request_id)
        identity = Identity(
            id="chatcmpl-" + request_id.removeprefix("req_"), created=int(time.time()), model=asked.model
        )
        self._usage_log.require_room()
        reserved = await self._limits.reserve(request)
        call = _Call(request, reserved, self._usage_log)
        try:
            completion = await self._gateway.complete(request)
            call.completion = completion
            headers = (("x-request-id", request_id), *reserved.headers)
            if asked.stream:
                options = asked.stream_options
                encoder = ChunkEncoder(identity, options is not None and options.include_usage)
                reply.open_stream(headers, encoder.role())
                await _relay(completion, encoder, reply, call)
            else:
                whole = await collect_completion(aiter(completion), identity)
                call.outcome = "complete"
                reply.send(200, (("content-type", "application/json"), *headers), _encode(whole))
        except TriplaneError as error:
            call.outcome, call.code = "failed", error.code
            raise
        finally:
            await call.close()
        return call.code


class _Call:
    """What one request costs, settled and written down exactly once, however it ends."""

    def __init__(self, request: CompletionRequest, reserved: Reserved, usage_log: UsageLog) -> None:
        self.completion: Completion | None = None
        self.outcome: Outcome = "cancelled"
        self.code: str | None = None
        self._request = request
        self._reserved = reserved
        self._usage_log = usage_log

    async def close(self) -> None:
        completion = self.completion
        if completion is None:
            self._reserved.refund()
            return
        try:
            await completion.aclose()
        finally:
            self._reserved.settle(completion.usage)
            for call in engine_calls(completion):
                self._usage_log.add(usage_line(self._request, call, time.time(), self.outcome, self.code))


def engine_calls(completion: Completion) -> Sequence[EngineCall]:
    """What each call to an engine has computed."""
    engine = completion.engine
    return (EngineCall(attempt=1, route=engine, replica=engine, usage=completion.usage, cost=0),)


async def _relay(completion: Completion, encoder: ChunkEncoder, reply: Reply, call: _Call) -> None:
    """The engine's events as frames, no faster than the client takes them."""
    write = reply.write
    async for event in completion:
        if type(event) is Delta:
            write(encoder.delta(event))
        elif isinstance(event, ToolCallDelta):
            write(encoder.tool_call(event))
        elif isinstance(event, Finished):
            call.outcome = "complete"
            write(encoder.end(event.reason, event.usage))
        elif isinstance(event, Failed):
            _tell(event, reply, call)
        if reply.is_clogged:
            await reply.drained()
    if call.outcome == "cancelled":
        raise EngineFailed("The engine's answer broke off. Send the request again.")
    write(DONE)
    reply.end()


def _tell(failed: Failed, reply: Reply, call: _Call) -> None:
    """With a status as long as none has gone out, else as the stream's last event."""
    error = error_from_code(failed.code, failed.message)
    if not reply.is_committed:
        raise error
    call.outcome, call.code = "failed", failed.code
    reply.write(error_frame(error))


def _request(asked: ChatCompletionRequest, flow: Flow, request_id: str) -> CompletionRequest:
    for name in PRODUCT_FIELDS:
        if getattr(asked, name) not in (None, msgspec.UNSET):
            raise UnsupportedParameter(
                f"{name}: this gateway keeps no conversations; send the whole history.", param=name
            )
    require_consistent(asked)
    return completion_request(
        asked, parse_messages(asked.messages), request_id=request_id, cache_salt=flow.tenant, flow=flow
    )
