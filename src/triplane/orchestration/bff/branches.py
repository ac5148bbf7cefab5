"""`continue` and `regenerate`: going on with an answer, and having its question answered again."""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from triplane.domain.completion import Flow, Sampling
from triplane.domain.conversation import OpenedTurn
from triplane.domain.errors import NotFound
from triplane.domain.ids import is_id, new_id
from triplane.domain.limits import TokenLimit
from triplane.orchestration.accounts.plans import PlanOf, everybody_default
from triplane.orchestration.bff.answers import identity_of_turn
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.flow import flow_of
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.bff.scope import set_limits
from triplane.orchestration.bff.turn_answers import (
    Delivery,
    answer_with_turn,
    idempotency_key,
    require_deliverable,
)
from triplane.orchestration.branching import Another, continue_turn, regenerate_turn
from triplane.orchestration.branching_ports import BranchStore
from triplane.orchestration.following import FollowDeps
from triplane.orchestration.turn import TurnDeps
from triplane.wire.answers import Identity
from triplane.wire.chat_completions import ChatCompletion, RequestId, StreamOptions


@dataclass(frozen=True, kw_only=True)
class BranchDeps:
    turn: TurnDeps
    follow: FollowDeps
    branches: BranchStore
    plan_of: PlanOf = everybody_default


class ContinueRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`max_tokens` is for the new part; left out, it is what the first part was allowed."""

    stream: bool | None = None
    background: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None


class RegenerateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out is as it was for the first answer."""

    request_id: RequestId | None = None
    stream: bool | None = None
    background: bool | None = None
    stream_options: StreamOptions | None = None
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    max_tokens: TokenLimit | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None


def branch_handlers(deps: BranchDeps) -> list[HTTPRouteHandler]:
    @post(
        "/v1/turns/{turn_id:str}/continue",
        operation_id="continueTurn",
        summary="Go on with an answer that was broken off, in place",
        tags=["turns"],
        status_code=200,
        responses=documented(400, 401, 403, 404, 409, 413, 415, 429, 502, 503, 504),
    )
    async def continue_answer(
        request: StrictRequest, turn_id: FromPath[str], data: JSONBody[ContinueRequest | None] = None
    ) -> Response[ChatCompletion]:
        body = data or ContinueRequest()
        _require_consistent(turn_id, body)
        who = request.principal
        flow = flow_of(who, deps.plan_of)
        answered = await continue_turn(who, turn_id, body.max_tokens, flow, deps.turn, deps.branches)
        set_limits(request.scope, answered.opened.limits)
        delivery = Delivery.of(body, after=answered.log_position)
        return await answer_with_turn(
            request, _identity(answered.opened, answered.model), delivery, deps.follow
        )

    @post(
        "/v1/turns/{turn_id:str}/regenerate",
        operation_id="regenerateTurn",
        summary="Answer a turn's question again, beside its answer",
        tags=["turns"],
        status_code=200,
        responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 429, 502, 503, 504),
    )
    async def regenerate_answer(
        request: StrictRequest, turn_id: FromPath[str], data: JSONBody[RegenerateRequest | None] = None
    ) -> Response[ChatCompletion]:
        body = data or RegenerateRequest()
        _require_consistent(turn_id, body)
        another = _another(request, turn_id, body, flow_of(request.principal, deps.plan_of))
        opened, model = await regenerate_turn(another, deps.turn, deps.branches)
        set_limits(request.scope, opened.limits)
        return await answer_with_turn(request, _identity(opened, model), Delivery.of(body), deps.follow)

    return [continue_answer, regenerate_answer]


def _require_consistent(turn_id: str, body: ContinueRequest | RegenerateRequest) -> None:
    if not is_id("turn", turn_id):
        raise NotFound("There is no such turn.", param="turn_id")
    require_deliverable(body)


def _another(request: StrictRequest, turn_id: str, body: RegenerateRequest, flow: Flow) -> Another:
    same: dict[str, Any] = msgspec.to_builtins(body) | dict.fromkeys(
        ("stream", "background", "stream_options", "request_id")
    )
    return Another(
        who=request.principal,
        turn_id=turn_id,
        request_id=idempotency_key(request, body.request_id) or new_id("req"),
        body_sha256=hashlib.sha256(msgspec.json.encode([turn_id, same])).digest(),
        model=body.model,
        sampling=Sampling(
            temperature=body.temperature, top_p=body.top_p, max_tokens=body.max_tokens, seed=body.seed
        ),
        flow=flow,
    )


def _identity(opened: OpenedTurn, model: str) -> Identity:
    return identity_of_turn(
        opened.turn_id, opened.conversation.id, opened.message_id, model, opened.created_at
    )
