"""One turn, from what the user sent to the stored answer. Read this file first, top to bottom.

`accept_turn` refuses while a status can still be sent, by the user's limits first, then opens the turn:
user rows and draft, one round trip. `generate_turn` runs as a task of its own, so the turn belongs to its
conversation and not to a socket: it builds the prompt from the hot window, has the gateway generate, records
each event in the replay log before a client is shown it, and finishes the turn: one round trip to the store,
one to refresh the hot window and tell the end.
Clients, this one's included, follow the replay log.
"""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass, field

import msgspec
import structlog

from triplane.domain.completion import CompletionRequest, Message
from triplane.domain.conversation import OpenedTurn, Principal
from triplane.domain.errors import Busy, DependencyFailed, StoreUnavailable, TriplaneError
from triplane.domain.events import (
    Delta,
    Failed,
    Finished,
    Started,
    ToolCallDelta,
    TurnError,
    TurnStarted,
    TurnStatus,
)
from triplane.domain.ids import new_id
from triplane.domain.limits import estimated_tokens
from triplane.orchestration.announcing import (
    Announcer,
    NobodyListens,
    NoSignals,
    StopSignals,
    announce_start,
)
from triplane.orchestration.asks import (
    STOPPED,
    AcceptedTurn,
    Ask,
    CountedAsk,
    Outcome,
    count_ask,
    encode_counted,
    started_event,
    system_message,
)
from triplane.orchestration.background import BackgroundTasks, to_the_end
from triplane.orchestration.conversation_ports import ConversationStore
from triplane.orchestration.draft import Draft, Interruption
from triplane.orchestration.ending import Attempt, bill, finish_turn, turn_result
from triplane.orchestration.history import fit_window, read_window
from triplane.orchestration.history_ports import HistoryStore, HotWindow
from triplane.orchestration.limiting import NOTHING_TAKEN, RateLimits, Reservation, Unlimited
from triplane.orchestration.metering import until_stored
from triplane.orchestration.ports import (
    Completion,
    Gateway,
    NewTurn,
    NobodyCounts,
    ReplayLog,
    TurnObserver,
    TurnStore,
    UsageStore,
)
from triplane.orchestration.prompt import build_prompt, require_fits
from triplane.orchestration.titles import provisional_title
from triplane.orchestration.turn_settings import under_settings

_log = structlog.get_logger(__name__)

STOP = "stop"
"""Why a turn's task is cancelled when the user stops it; without this word it is a shutdown."""


@dataclass(frozen=True, kw_only=True)
class TurnDeps:
    """What a turn needs. `running` owns the tasks of the turns that this process, `owner`, runs."""

    conversations: ConversationStore
    turns: TurnStore
    hot_window: HotWindow
    history: HistoryStore
    log: ReplayLog
    gateway: Gateway
    usage: UsageStore
    running: BackgroundTasks
    system_policy: str
    owner: str
    observer: TurnObserver = field(default_factory=NobodyCounts)
    announcer: Announcer = field(default_factory=NobodyListens)
    signals: StopSignals = field(default_factory=NoSignals)
    limits: RateLimits = field(default_factory=Unlimited)


async def accept_turn(ask: Ask, deps: TurnDeps) -> OpenedTurn:
    """Open the turn and start generating; a retry gets the turn that runs, or ran, already.

    Raises RateLimited, OverLimit, ModelNotFound, ContextTooLong, EngineUnavailable, NotFound (conversation),
    IdempotencyKeyReused, Conflict; nothing has been written then, and nothing is taken from the limits.
    """
    with ExitStack() as unless_begun:
        try:
            reservation = unless_begun.enter_context(await reserve(ask, deps))
            counted = await count_ask(ask, deps.gateway, deps.system_policy)
        except (DependencyFailed, Busy):
            if known := await deps.turns.known(ask.who, ask.request_id, ask.body_sha256, ask.conversation_id):
                return known
            raise
        require_fits(counted.new, counted.budget)
        opened = await _open(ask, counted, deps)
        if opened.created:
            deps.log.open(ask.who.tenant_id, opened.turn_id)
            accepted = AcceptedTurn(counted=counted, opened=opened)
            deps.running.start(opened.turn_id, generate_turn(accepted, deps, reservation))
            unless_begun.pop_all()
    return msgspec.structs.replace(opened, limits=reservation.limits)


async def reserve(ask: Ask, deps: TurnDeps) -> Reservation:
    """Take what the turn may need of its user's limits. Raises RateLimited, OverLimit."""
    template = ask.template
    return await deps.limits.reserve(template.flow, template.model, estimated_tokens(template, ask.system))


async def _open(ask: Ask, counted: CountedAsk, deps: TurnDeps) -> OpenedTurn:
    """The user's rows and the draft, or the turn of a request id that is known: one round trip."""
    return await deps.turns.open(
        ask.who,
        NewTurn(
            turn_id=new_id("turn"),
            request_id=ask.request_id,
            body_sha256=ask.body_sha256,
            conversation_id=ask.conversation_id,
            model=counted.card.id,
            messages=counted.new,
            draft_id=new_id("msg"),
            parent_id=ask.parent_id,
            expected_parent=ask.expected_parent,
            provisional_title=provisional_title(counted.new[0].message) if counted.new else None,
            request=encode_counted(counted),
            lease_owner=deps.owner,
        ),
    )


async def generate_turn(
    accepted: AcceptedTurn, deps: TurnDeps, reservation: Reservation = NOTHING_TAKEN
) -> None:
    """Generate the answer, record it while it flows, and end the turn, unless another owner is to go on.

    A turn that was taken over comes without a reservation: its first owner's drew the tokens.
    """
    held, attempt = accepted.held, Attempt(Outcome(status="failed", error=_BUG))
    me = asyncio.current_task()
    announce_start(deps.announcer, accepted.ask.who, accepted.opened)

    async with Draft(
        append=lambda entries: deps.log.append(held, entries, attempt.calls),
        show=lambda entries: deps.log.show(held, entries),
        renew=lambda text, position: deps.turns.renew(held, text, position),
        interrupt=lambda reason: _cancel(me, reason),
    ) as draft:
        try:
            attempt.outcome = await _generate(accepted, draft, attempt, deps)
        except TriplaneError as error:
            broken = Failed(code=error.code, message=error.message, retryable=error.retryable)
            attempt.outcome = _broken(broken, draft)
        except asyncio.CancelledError as cancelled:
            attempt.outcome = STOPPED if cancelled.args == (STOP,) else None
        finally:
            attempt.settle(reservation)
            await to_the_end(_leave(accepted, draft, attempt, deps))


def _cancel(task: "asyncio.Task[None] | None", reason: Interruption) -> None:
    if task:
        task.cancel(reason)


async def _generate(accepted: AcceptedTurn, draft: Draft, attempt: Attempt, deps: TurnDeps) -> "Outcome":
    """History, prompt, gateway; then the engine's events into the draft until they end."""
    if accepted.recovered:  # first, before anything can fail: the draft is what is stored
        draft.recover(accepted.recovered.entries)
    settings = accepted.opened.settings
    counted = (
        accepted.counted
        if accepted.decided
        else await under_settings(accepted.counted, settings, deps.gateway)
    )
    ask, attempt.budget = counted.ask, counted.budget
    attempt.before = await read_window(ask.who, accepted.opened, deps.hot_window, deps.history, deps.observer)
    attempt.kept = kept = await fit_window(
        ask.who, ask.conversation_id, attempt.before, counted.new, counted.budget, deps.history
    )
    if accepted.decided:
        return accepted.decided
    system = system_message(ask, deps.system_policy, kept.summary, settings.instructions)
    prompt = build_prompt(system, kept.messages, counted.new)
    request = _continued(msgspec.structs.replace(ask.template, messages=prompt), draft, _shown(accepted))
    attempt.completion = await deps.gateway.complete(request, attempt.made)
    async with aclosing(attempt.completion):
        return await _record(attempt.completion, draft, started_event(accepted))


def _shown(accepted: AcceptedTurn) -> int:
    """How many pieces of what this ask allows were shown by earlier owners."""
    entries = accepted.recovered.entries if accepted.recovered else []
    return sum(entry.position > accepted.begins_after and isinstance(entry.event, Delta) for entry in entries)


def _continued(request: CompletionRequest, draft: Draft, shown: int) -> CompletionRequest:
    """The same request, to go on from the text that was shown. Each piece of it was about one token."""
    if not draft.text:
        return request
    left = request.sampling.max_tokens and max(1, request.sampling.max_tokens - shown)
    return msgspec.structs.replace(
        request,
        messages=[*request.messages, Message(role="assistant", content=draft.text)],
        sampling=msgspec.structs.replace(request.sampling, max_tokens=left),
        continue_final_message=True,
    )


async def stop_turn(who: Principal, turn_id: str, deps: TurnDeps) -> None:
    """Stop the turn, before its first token too, wherever it runs; what was shown is kept.

    Raises NotFound. A turn that has ended already stays as it is.
    """
    await deps.turns.request_stop(who, turn_id)
    await stop_at_once([turn_id], deps)


async def stop_at_once(turn_ids: Sequence[str], deps: TurnDeps) -> None:
    """Tell the owners of turns, whose rows ask for it already, wherever they are."""
    for turn_id in turn_ids:
        if not deps.running.cancel(turn_id, STOP):
            await deps.signals.send(turn_id)


_BUG = TurnError(code="internal_error", message="Something broke on our side. Send the message again.")


async def _record(completion: Completion, draft: Draft, started: TurnStarted) -> Outcome:
    """Put the engine's events into the draft until they end."""
    while events := await completion.take_events():
        for event in events:
            match event:
                case Started(degraded=degraded, is_cached=is_cached):
                    if not draft.position:
                        draft.add(msgspec.structs.replace(started, degraded=degraded, is_cached=is_cached))
                case Delta() | ToolCallDelta():
                    draft.add(event)
                case Finished(reason=reason):
                    draft.add(event)
                    return Outcome(status="complete", finish_reason=reason)
                case Failed():
                    return _broken(event, draft)
    return _broken(_CUT_OFF, draft)


_CUT_OFF = Failed(code="engine_failed", message="The engine's answer broke off.", retryable=True)


def _broken(failed: Failed, draft: Draft) -> Outcome:
    """Text that was shown is kept: such an answer is incomplete, one without any has failed."""
    status: TurnStatus = "incomplete" if draft.text or draft.tool_calls else "failed"
    return Outcome(status=status, error=TurnError(code=failed.code, message=failed.message))


async def _leave(accepted: AcceptedTurn, draft: Draft, attempt: Attempt, deps: TurnDeps) -> None:
    """End the turn, or let go of it for another owner; then release who follows here."""
    await draft.settle()
    if draft.is_lost:
        await _lose(accepted, attempt, deps)
    elif attempt.outcome:
        result = turn_result(accepted, draft, attempt, attempt.outcome)
        if await finish_turn(accepted, result, attempt, draft, deps.turns, deps.hot_window, deps.announcer):
            deps.observer.turn_ended(result.status)
        else:
            await _lose(accepted, attempt, deps)
    else:
        await _hand_over(accepted, draft, attempt, deps)
    deps.log.close(accepted.held.tenant_id, accepted.held.turn_id)


async def _hand_over(accepted: AcceptedTurn, draft: Draft, attempt: Attempt, deps: TurnDeps) -> None:
    """A shutdown: another process, or this one's successor, goes on from the text so far."""
    with suppress(StoreUnavailable):  # the lease runs out by itself then
        await _bill(accepted, attempt, deps)
        await deps.turns.release(accepted.held, draft.text, draft.position)
    _log.info("turn handed over", turn_id=accepted.held.turn_id, position=draft.position)


async def _lose(accepted: AcceptedTurn, attempt: Attempt, deps: TurnDeps) -> None:
    """The turn has a newer owner, which bills what the log knows: the rest is known only here."""
    _log.info("turn lost to a newer owner", turn_id=accepted.held.turn_id)
    await until_stored(lambda: _bill(accepted, attempt, deps))


async def _bill(accepted: AcceptedTurn, attempt: Attempt, deps: TurnDeps) -> None:
    if events := bill(accepted, accepted.held, attempt.calls):
        await deps.usage.record_attempt(events)
