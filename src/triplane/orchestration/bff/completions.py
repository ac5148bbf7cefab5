"""`POST /v1/chat/completions`: stateless, or a turn of a conversation. Parse, call, present."""

import hashlib
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from triplane.domain.completion import CompletionRequest, Flow, Message
from triplane.domain.errors import InvalidRequest, NotFound, UnsupportedParameter
from triplane.domain.ids import is_id, new_id
from triplane.orchestration.accounts.plans import PlanOf, everybody_default
from triplane.orchestration.asks import Ask
from triplane.orchestration.bff.answers import identity_of_turn
from triplane.orchestration.bff.connection import unless_gone
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.event_stream import EventStream
from triplane.orchestration.bff.flow import flow_of, prompt_affinity
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.bff.scope import set_limits
from triplane.orchestration.bff.turn_answers import (
    STATUS_WAIT_S,
    Delivery,
    answer_with_turn,
    idempotency_key,
    require_deliverable,
)
from triplane.orchestration.following import FollowDeps, just_opened
from triplane.orchestration.stateless import StatelessDeps, start_completion
from triplane.orchestration.turn import TurnDeps, accept_turn
from triplane.wire.answers import Identity, collect_completion, stream_completion
from triplane.wire.chat_completions import (
    ChatCompletion,
    ChatCompletionRequest,
    completion_request,
    parse_messages,
    require_consistent,
)


@dataclass(frozen=True, kw_only=True)
class CompletionDeps:
    turn: TurnDeps
    follow: FollowDeps
    stateless: StatelessDeps
    plan_of: PlanOf = everybody_default


def completion_handlers(deps: CompletionDeps) -> list[HTTPRouteHandler]:
    @post(
        "/v1/chat/completions",
        operation_id="createChatCompletion",
        summary="Answer a conversation's next message, or a whole history",
        tags=["chat"],
        status_code=200,
        responses=documented(400, 401, 403, 404, 413, 415, 422, 429, 502, 503, 504),
    )
    async def create_chat_completion(
        request: StrictRequest, data: JSONBody[ChatCompletionRequest]
    ) -> Response[ChatCompletion]:
        require_consistent(data)
        require_deliverable(data)
        if data.conversation_id is None:
            return await _stateless(request, data, deps)
        return await _turn(request, data, data.conversation_id, deps)

    return [create_chat_completion]


async def _stateless(
    request: StrictRequest, body: ChatCompletionRequest, deps: CompletionDeps
) -> Response[Any]:
    messages, who = parse_messages(body.messages), request.principal
    flow = flow_of(who, deps.plan_of, prompt_affinity(who, messages))
    asked = _completion_request(request, body, messages, flow)
    completion = await start_completion(who, asked, deps.stateless)
    set_limits(request.scope, completion.limits)
    identity = Identity(
        id="chatcmpl-" + asked.request_id.removeprefix("req_"), created=int(time.time()), model=asked.model
    )
    async with AsyncExitStack() as unless_streaming:
        unless_streaming.push_async_callback(completion.aclose)
        await unless_gone(request, completion.opened(STATUS_WAIT_S if body.stream else None))
        if not body.stream:
            answer = await unless_gone(request, collect_completion(aiter(completion), identity))
            return Response(answer)
        unless_streaming.pop_all()
    return EventStream(
        stream_completion(aiter(completion), identity, Delivery.of(body).include_usage), closing=completion
    )


async def _turn(
    request: StrictRequest, body: ChatCompletionRequest, conversation_id: str, deps: CompletionDeps
) -> Response[Any]:
    flow = flow_of(request.principal, deps.plan_of, conversation_id)
    ask = _ask(request, body, conversation_id, flow, await _model(request, body, conversation_id, deps))
    opened, model = await accept_turn(ask, deps.turn), ask.template.model
    set_limits(request.scope, opened.limits)
    identity = identity_of_turn(opened.turn_id, conversation_id, opened.message_id, model, opened.created_at)
    known = just_opened(opened, model)
    return await answer_with_turn(request, identity, Delivery.of(body), deps.follow, known)


async def _model(
    request: StrictRequest, body: ChatCompletionRequest, conversation_id: str, deps: CompletionDeps
) -> str:
    """The model that is asked. A body that names none costs one look at what its conversation prefers."""
    if not is_id("conv", conversation_id):
        raise NotFound("There is no such conversation.", param="conversation_id")
    model = body.model or await deps.turn.conversations.model_of(request.principal, conversation_id)
    if model is None:
        raise InvalidRequest(
            "The field `model` is required: neither the conversation nor its user has a model set.",
            param="model",
        )
    return model


def _ask(
    request: StrictRequest, body: ChatCompletionRequest, conversation_id: str, flow: Flow, model: str
) -> Ask:
    messages = parse_messages(body.messages)
    new = list(dropwhile(lambda message: message.role == "system", messages))
    system = messages[: len(messages) - len(new)]
    for index, message in enumerate(new, start=len(system)):
        if message.role not in ("user", "tool"):
            raise InvalidRequest(
                f"messages[{index}].role is {message.role}: with conversation_id send only what is new "
                "(user or tool messages, instructions before them); the rest comes from the conversation.",
                param=f"messages[{index}].role",
            )
        if message.name is not None:
            raise UnsupportedParameter(
                f"messages[{index}].name isn't kept in a conversation: leave it out.",
                param=f"messages[{index}].name",
            )
    if not new:
        raise InvalidRequest("messages has no user message.", param="messages")
    return Ask(
        who=request.principal,
        conversation_id=conversation_id,
        request_id=idempotency_key(request, body.request_id) or new_id("req"),
        body_sha256=_digest(body),
        template=_completion_request(request, body, new, flow, model),
        system=system,
        parent_id=body.parent_id,
        expected_parent=body.expected_parent,
    )


def _digest(body: ChatCompletionRequest) -> bytes:
    """What a retry must have in common with the first try: all but how the answer is delivered."""
    same = msgspec.structs.replace(body, stream=None, stream_options=None, request_id=None, background=None)
    return hashlib.sha256(msgspec.json.encode(same)).digest()


def _completion_request(
    request: StrictRequest,
    body: ChatCompletionRequest,
    messages: list[Message],
    flow: Flow,
    model: str | None = None,
) -> CompletionRequest:
    return completion_request(
        body,
        messages,
        request_id=request.request_id,
        cache_salt=request.principal.tenant_id,
        flow=flow,
        model=model,
    )
