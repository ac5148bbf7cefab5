"""`POST /v1/chat/completions`: stateless, or a turn of a conversation. Parse, call, present."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from triplane.domain.completion import CompletionRequest, Message
from triplane.domain.errors import InvalidRequest, NotFound, error_from_code
from triplane.domain.events import LogEntry, TurnEnded
from triplane.domain.ids import is_id, new_id
from triplane.orchestration.asks import Ask
from triplane.orchestration.bff.answers import (
    Identity,
    collect_completion,
    collect_turn,
    identity_of_turn,
    stream_completion,
    stream_turn,
)
from triplane.orchestration.bff.connection import unless_gone
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.event_stream import EventStream
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.bff.wire import (
    ChatCompletion,
    ChatCompletionRequest,
    parse_messages,
    parse_sampling,
    require_consistent,
)
from triplane.orchestration.following import FollowDeps, follow_turn
from triplane.orchestration.stateless import StatelessCompletion, StatelessDeps
from triplane.orchestration.turn import TurnDeps, accept_turn

STATUS_WAIT_S = 5.0
"""How long a stream waits for its first event before it commits to status 200 and heartbeats.

Until then a failure has a status of its own; after it, an error event is the only way to tell.
"""


@dataclass(frozen=True, kw_only=True)
class CompletionDeps:
    turn: TurnDeps
    follow: FollowDeps
    stateless: StatelessDeps


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
        if data.conversation_id is None:
            return await _stateless(request, data, deps)
        return await _turn(request, data, data.conversation_id, deps)

    return [create_chat_completion]


async def _stateless(
    request: StrictRequest, body: ChatCompletionRequest, deps: CompletionDeps
) -> Response[Any]:
    asked = _completion_request(request, body, parse_messages(body.messages))
    completion = StatelessCompletion(request.principal, asked, deps.stateless)
    identity = Identity(
        id="chatcmpl-" + asked.request_id.removeprefix("req_"), created=int(time.time()), model=body.model
    )
    async with AsyncExitStack() as unless_streaming:
        unless_streaming.push_async_callback(completion.aclose)
        await unless_gone(request, completion.opened(STATUS_WAIT_S if body.stream else None))
        if not body.stream:
            answer = await unless_gone(request, collect_completion(aiter(completion), identity))
            return Response(answer)
        unless_streaming.pop_all()
    return EventStream(stream_completion(aiter(completion), identity, _wants_usage(body)), closing=completion)


async def _turn(
    request: StrictRequest, body: ChatCompletionRequest, conversation_id: str, deps: CompletionDeps
) -> Response[Any]:
    who = request.principal
    opened = await accept_turn(_ask(request, body, conversation_id), deps.turn)
    identity = identity_of_turn(
        opened.turn_id, conversation_id, opened.message_id, body.model, opened.created_at
    )
    entries = _Followed(follow_turn(who, opened.turn_id, 0, deps.follow))
    if body.stream:
        await entries.begin(STATUS_WAIT_S)
        frames = stream_turn(aiter(entries), identity, _wants_usage(body))
        return EventStream(frames, closing=entries)
    async with aclosing(entries):
        return Response(await unless_gone(request, collect_turn(aiter(entries), identity)))


class _Followed:
    """A turn's entries, of which the first can be waited for before the response begins."""

    def __init__(self, entries: AsyncGenerator[LogEntry, None]) -> None:
        self._entries = entries
        self._first = asyncio.ensure_future(anext(entries))

    async def begin(self, within_s: float) -> None:
        """Wait for the first entry. Raises what the turn failed with, if that is all there is."""
        await asyncio.wait((self._first,), timeout=within_s)
        if self._first.done():
            event = self._first.result().event
            if isinstance(event, TurnEnded) and event.error:
                await self.aclose()
                raise error_from_code(event.error.code, event.error.message)

    async def __aiter__(self) -> AsyncIterator[LogEntry]:
        yield await self._first
        async for entry in self._entries:
            yield entry

    async def aclose(self) -> None:
        self._first.cancel()
        await asyncio.wait((self._first,))
        await self._entries.aclose()


def _ask(request: StrictRequest, body: ChatCompletionRequest, conversation_id: str) -> Ask:
    if not is_id("conv", conversation_id):
        raise NotFound("There is no such conversation.", param="conversation_id")
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
    if not new:
        raise InvalidRequest("messages has no user message.", param="messages")
    return Ask(
        who=request.principal,
        conversation_id=conversation_id,
        request_id=_idempotency_key(request, body) or new_id("req"),
        body_sha256=_digest(body),
        template=_completion_request(request, body, new),
        system=system,
    )


def _idempotency_key(request: StrictRequest, body: ChatCompletionRequest) -> str | None:
    """The name that makes a retry the same turn. Raises InvalidRequest if it is too long."""
    headers = request.headers
    key = body.request_id or headers.get("idempotency-key") or headers.get("x-request-id")
    if key and len(key) > 200:
        raise InvalidRequest("The idempotency key is longer than 200 characters.", param="request_id")
    return key


def _digest(body: ChatCompletionRequest) -> bytes:
    """What a retry must have in common with the first try: all but how the answer is delivered."""
    same = msgspec.structs.replace(body, stream=None, stream_options=None, request_id=None)
    return hashlib.sha256(msgspec.json.encode(same)).digest()


def _completion_request(
    request: StrictRequest, body: ChatCompletionRequest, messages: list[Message]
) -> CompletionRequest:
    return CompletionRequest(
        request_id=request.request_id,
        model=body.model,
        messages=messages,
        sampling=parse_sampling(body),
        tools=body.tools or None,
        tool_choice=body.tool_choice,
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=body.response_format,
        user=body.user,
        cache_salt=request.principal.tenant_id,
    )


def _wants_usage(body: ChatCompletionRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage
