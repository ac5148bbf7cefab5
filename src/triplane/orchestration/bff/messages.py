"""`POST /v1/messages`: Anthropic's Messages, as a stateless call; and its tokens, counted.

What goes wrong at these paths is told in that API's shape, whatever it is (`bff/errors.py`).
"""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from triplane.domain.anthropic.answers import MessagesCollector, MessagesEncoder
from triplane.domain.anthropic.requests import counted_messages, parse_count_request, parse_messages_request
from triplane.domain.anthropic.wire import WholeMessage, WireError
from triplane.domain.completion import CompletionRequest
from triplane.domain.errors import EngineFailed
from triplane.domain.events import EngineEvent, Usage
from triplane.orchestration.accounts.plans import PlanOf, everybody_default
from triplane.orchestration.bff.connection import unless_gone
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.event_stream import EventStream
from triplane.orchestration.bff.flow import flow_of, prompt_affinity
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.bff.scope import COUNT_TOKENS, MESSAGES, set_limits
from triplane.orchestration.bff.turn_answers import STATUS_WAIT_S
from triplane.orchestration.stateless import StatelessDeps, start_completion
from triplane.wire.errors import UnsupportedMediaType
from triplane.wire.strict_json import is_json


class TokenCount(msgspec.Struct, frozen=True):
    input_tokens: int


def messages_handlers(deps: StatelessDeps, plan_of: PlanOf = everybody_default) -> list[HTTPRouteHandler]:
    @post(
        MESSAGES,
        operation_id="createMessage",
        summary="Answer a whole history, on Anthropic's wire",
        tags=["messages"],
        status_code=200,
        responses=documented(400, 401, 403, 404, 413, 415, 429, 502, 503, 504, shape=WireError),
    )
    async def create_message(request: StrictRequest) -> Response[WholeMessage]:
        parsed = parse_messages_request(await _json_body(request), request.request_id)
        return await _answer(request, _of(request, parsed.completion, plan_of), parsed.stream, deps)

    @post(
        COUNT_TOKENS,
        operation_id="countMessageTokens",
        summary="The tokens of a request on Anthropic's wire",
        tags=["messages"],
        status_code=200,
        responses=documented(400, 401, 403, 404, 413, 415, 429, 502, 503, shape=WireError),
    )
    async def count_tokens(request: StrictRequest) -> TokenCount:
        parsed = parse_count_request(await _json_body(request), request.request_id)
        asked = _of(request, parsed, plan_of)
        with await deps.limits.reserve(asked.flow, asked.model, 0) as reserved:
            counts = await deps.gateway.count_tokens(asked.model, counted_messages(asked))
            reserved.settle(Usage())
        set_limits(request.scope, reserved.limits)
        return TokenCount(sum(counts))

    return [create_message, count_tokens]


async def _json_body(request: StrictRequest) -> bytes:
    body = await request.body()
    if not is_json(request.headers.get("content-type", "")):
        raise UnsupportedMediaType("Send the body as JSON, with `Content-Type: application/json`.")
    return body


def _of(request: StrictRequest, asked: CompletionRequest, plan_of: PlanOf) -> CompletionRequest:
    """The same request, as its sender's."""
    who = request.principal
    flow = flow_of(who, plan_of, prompt_affinity(who, asked.messages))
    return msgspec.structs.replace(asked, flow=flow, cache_salt=who.tenant_id)


async def _answer(
    request: StrictRequest, asked: CompletionRequest, stream: bool, deps: StatelessDeps
) -> Response[Any]:
    completion = await start_completion(request.principal, asked, deps)
    set_limits(request.scope, completion.limits)
    named = "msg_" + asked.request_id.removeprefix("req_"), asked.model
    async with AsyncExitStack() as unless_streaming:
        unless_streaming.push_async_callback(completion.aclose)
        await unless_gone(request, completion.opened(STATUS_WAIT_S if stream else None))
        if not stream:
            whole = _collected(aiter(completion), MessagesCollector(*named))
            answer = await unless_gone(request, whole)
            return Response(answer, headers={"request-id": asked.request_id})
        unless_streaming.pop_all()
    return EventStream(_frames(aiter(completion), MessagesEncoder(*named)), closing=completion)


async def _frames(events: AsyncIterable[EngineEvent], encoder: MessagesEncoder) -> AsyncIterator[bytes]:
    async for event in events:
        if frames := encoder.encode(event):
            yield frames


async def _collected(events: AsyncIterable[EngineEvent], collector: MessagesCollector) -> WholeMessage:
    async for event in events:
        if message := collector.add(event):
            return message
    raise EngineFailed("The engine's answer broke off. Send the request again.")
