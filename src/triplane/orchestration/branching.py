"""An answer that goes on where it ended, and a question that is answered again.

Continuing is a takeover of a turn that has ended: the same row and the same log, under a new fence, from
the last word. Answering again is a new turn without messages of its own, a sibling of the first answer.
"""

from contextlib import ExitStack

import msgspec

from triplane.domain.completion import Flow, Message, ModelCard, Sampling
from triplane.domain.conversation import NewMessage, OpenedTurn, Principal
from triplane.domain.errors import Conflict, InvalidRequest
from triplane.orchestration.asks import (
    AcceptedTurn,
    Ask,
    Continuation,
    CountedAsk,
    count_ask,
    encode_counted,
)
from triplane.orchestration.branching_ports import AnsweredTurn, BranchStore
from triplane.orchestration.recovery import recovered_log
from triplane.orchestration.turn import TurnDeps, accept_turn, generate_turn, reserve


class Another(msgspec.Struct, frozen=True, kw_only=True):
    """What another answer is to be like; what is None stays as it was asked first."""

    who: Principal
    turn_id: str
    request_id: str
    body_sha256: bytes
    model: str | None
    sampling: Sampling
    flow: Flow


async def regenerate_turn(another: Another, deps: TurnDeps, branches: BranchStore) -> tuple[OpenedTurn, str]:
    """Answer the turn's question again, beside its answer, by the model that is named.

    Raises as `accept_turn` does.
    """
    answered = await branches.answered(another.who, another.turn_id)
    first = _first_ask(answered).ask
    template = msgspec.structs.replace(
        first.template,
        request_id=another.request_id,
        model=another.model or first.template.model,
        messages=[],
        sampling=_changed(first.template.sampling, another.sampling),
        flow=_in_conversation(another.flow, answered),
    )
    ask = Ask(
        who=another.who,
        conversation_id=answered.opened.conversation.id,
        request_id=another.request_id,
        body_sha256=another.body_sha256,
        template=template,
        system=first.system,
        parent_id=answered.question_id,
    )
    return await accept_turn(ask, deps), template.model


def _changed(first: Sampling, changes: Sampling) -> Sampling:
    given = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not None}
    return msgspec.structs.replace(first, **given)


async def continue_turn(
    who: Principal,
    turn_id: str,
    max_tokens: int | None,
    flow: Flow,
    deps: TurnDeps,
    branches: BranchStore,
) -> AnsweredTurn:
    """Go on with an ended answer, in place; what is new follows the `log_position` that is returned.

    Raises NotFound, Conflict (it runs, is finished or has been answered), InvalidRequest (it can't be
    continued), RateLimited, OverLimit, and what counting raises; nothing has been written then.
    """
    answered = await branches.answered(who, turn_id)
    _require_unfinished(answered)
    first = _with_changes(_first_ask(answered), max_tokens, _in_conversation(flow, answered))
    with ExitStack() as unless_begun:
        reservation = unless_begun.enter_context(await reserve(first.ask, deps))
        accepted, goes_on_after = await _reopen(first, answered, deps, branches)
        deps.running.start(turn_id, generate_turn(accepted, deps, reservation))
        unless_begun.pop_all()
    opened = msgspec.structs.replace(answered.opened, limits=reservation.limits)
    return msgspec.structs.replace(answered, opened=opened, log_position=goes_on_after)


def _in_conversation(flow: Flow, answered: AnsweredTurn) -> Flow:
    return msgspec.structs.replace(flow, affinity=answered.opened.conversation.id)


def _with_changes(first: CountedAsk, max_tokens: int | None, flow: Flow) -> CountedAsk:
    sampling = _changed(first.ask.template.sampling, Sampling(max_tokens=max_tokens))
    template = msgspec.structs.replace(first.ask.template, sampling=sampling, flow=flow)
    return msgspec.structs.replace(first, ask=msgspec.structs.replace(first.ask, template=template))


async def _reopen(
    first: CountedAsk, answered: AnsweredTurn, deps: TurnDeps, branches: BranchStore
) -> tuple[AcceptedTurn, int]:
    """The turn as it goes on, its row and log taken over; and the log's position that it follows."""
    counted = await _counted(first, answered, deps)
    _require_continuable(answered, counted.card)
    opened = msgspec.structs.replace(answered.opened, fence=answered.opened.fence + 1, status="streaming")
    accepted = AcceptedTurn(counted=counted, opened=opened)
    if not await branches.reopen(accepted.held, encode_counted(counted), deps.owner):
        raise Conflict("This answer has been continued or followed by another message meanwhile.")
    await deps.hot_window.drop(accepted.held.tenant_id, opened.conversation.id)
    deps.log.open(accepted.held.tenant_id, accepted.held.turn_id)
    recovered = await recovered_log(accepted, answered.text, answered.log_position, deps.log)
    goes_on_after = recovered.entries[-1].position
    return msgspec.structs.replace(accepted, recovered=recovered), goes_on_after


def _require_unfinished(answered: AnsweredTurn) -> None:
    status = answered.opened.status
    if status == "streaming":
        raise Conflict("This answer is still being written: follow it, or stop it first.")
    if status == "failed":
        raise Conflict("This turn has failed without an answer: have its question answered again.")
    if status == "complete" and answered.finish_reason != "length":
        raise Conflict("This answer is finished: there is nothing to continue.")


def _require_continuable(answered: AnsweredTurn, card: ModelCard) -> None:
    if answered.tool_calls:
        raise InvalidRequest("This answer calls tools, which can't be continued: have it answered again.")
    if answered.text and not card.supports_continuation:
        raise InvalidRequest(
            f"The engine of {card.id} can't go on with an answer that has ended: have it answered again.",
            param="model",
        )


async def _counted(first: CountedAsk, answered: AnsweredTurn, deps: TurnDeps) -> CountedAsk:
    """The ask again, with room in its prompt for the text that is there."""
    messages = [item.message for item in first.new]
    template = msgspec.structs.replace(first.ask.template, messages=messages)
    ask = msgspec.structs.replace(first.ask, template=template)
    counted = await count_ask(ask, deps.gateway, deps.system_policy)
    (shown,) = await deps.gateway.count_tokens(
        counted.card.id, [Message(role="assistant", content=answered.text)]
    )
    budget = msgspec.structs.replace(counted.budget, fixed_tokens=counted.budget.fixed_tokens + shown)
    continues = Continuation(after=answered.log_position, token_count=shown)
    return msgspec.structs.replace(
        counted, new=_same_messages(first, counted), budget=budget, continues=continues
    )


def _same_messages(first: CountedAsk, counted: CountedAsk) -> list[NewMessage]:
    """The messages keep the ids of their rows."""
    return [
        msgspec.structs.replace(item, id=known.id) for known, item in zip(first.new, counted.new, strict=True)
    ]


def _first_ask(answered: AnsweredTurn) -> CountedAsk:
    return msgspec.json.decode(answered.request, type=CountedAsk)
