"""One turn, from what the user sent to the stored answer. Read this file first, top to bottom.

`accept_turn` refuses while a status can still be sent, then opens the turn: user rows and draft, one round
trip. `generate_turn` runs as a task of its own, so the turn belongs to its conversation and not to a
socket: it builds the prompt from the hot window, has the gateway generate, records each event in the replay
log before a client is shown it, finishes the turn in one round trip, and refreshes the hot window.
Clients, this one's included, follow the replay log.
"""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

import msgspec
import structlog

from triplane.domain.completion import CompletionRequest, Message
from triplane.domain.conversation import OpenedTurn, Principal, StoredMessage
from triplane.domain.errors import StoreUnavailable, TriplaneError
from triplane.domain.events import (
    Delta,
    Failed,
    Finished,
    LogEntry,
    Started,
    ToolCallDelta,
    TurnError,
    TurnStarted,
    TurnStatus,
)
from triplane.domain.ids import new_id
from triplane.orchestration.asks import (
    STOPPED,
    AcceptedTurn,
    Ask,
    Outcome,
    count_ask,
    started_event,
    system_message,
)
from triplane.orchestration.background import BackgroundTasks, to_the_end
from triplane.orchestration.draft import Draft, Interruption
from triplane.orchestration.ending import Attempt, bill, finish_turn, turn_result
from triplane.orchestration.ports import (
    Completion,
    ConversationStore,
    Gateway,
    HotWindow,
    NewTurn,
    NobodyCounts,
    ReplayLog,
    TurnObserver,
    TurnStore,
    UsageStore,
)
from triplane.orchestration.prompt import build_prompt, require_fits
from triplane.orchestration.titles import provisional_title

_log = structlog.get_logger(__name__)

STOP = "stop"
"""Why a turn's task is cancelled when the user stops it; without this word it is a shutdown."""


@dataclass(frozen=True, kw_only=True)
class TurnDeps:
    """What a turn needs. `running` owns the tasks of the turns that this process, `owner`, runs."""

    conversations: ConversationStore
    turns: TurnStore
    hot_window: HotWindow
    log: ReplayLog
    gateway: Gateway
    usage: UsageStore
    running: BackgroundTasks
    system_policy: str
    owner: str
    observer: TurnObserver = field(default_factory=NobodyCounts)


async def accept_turn(ask: Ask, deps: TurnDeps) -> OpenedTurn:
    """Open the turn and start generating; a retry gets the turn that runs, or ran, already.

    Raises ModelNotFound, ContextTooLong, EngineUnavailable, NotFound (conversation), IdempotencyKeyReused;
    nothing has been written then.
    """
    counted = await count_ask(ask, deps.gateway, deps.system_policy)
    require_fits(counted.new, counted.budget)
    opened = await deps.turns.open(
        ask.who,
        NewTurn(
            turn_id=new_id("turn"),
            request_id=ask.request_id,
            body_sha256=ask.body_sha256,
            conversation_id=ask.conversation_id,
            model=counted.card.id,
            messages=counted.new,
            draft_id=new_id("msg"),
            provisional_title=provisional_title(counted.new[0].message),
            request=msgspec.json.encode(counted),
            lease_owner=deps.owner,
        ),
    )
    if opened.created:
        deps.log.open(ask.who.tenant_id, opened.turn_id)
        accepted = AcceptedTurn(counted=counted, opened=opened)
        deps.running.start(opened.turn_id, generate_turn(accepted, deps))
    return opened


async def generate_turn(accepted: AcceptedTurn, deps: TurnDeps) -> None:
    """Generate the answer, record it while it flows, and end the turn, unless another owner is to go on."""
    held, attempt = accepted.held, Attempt(Outcome(status="failed", error=_BUG))
    me = asyncio.current_task()

    async def append(entries: list[LogEntry]) -> bool:
        usage = attempt.usage
        if not await deps.log.append(held, entries, usage):
            return False
        attempt.logged_usage = usage
        return True

    async with Draft(
        append=append,
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
            await to_the_end(_leave(accepted, draft, attempt, deps))


def _cancel(task: "asyncio.Task[None] | None", reason: Interruption) -> None:
    if task:
        task.cancel(reason)


async def _generate(accepted: AcceptedTurn, draft: Draft, attempt: Attempt, deps: TurnDeps) -> "Outcome":
    """History, prompt, gateway; then the engine's events into the draft until they end."""
    ask, counted = accepted.ask, accepted.counted
    if accepted.recovered:
        draft.recover(accepted.recovered.entries)
    attempt.history = await _history(ask.who, accepted.opened, deps)
    prompt = build_prompt(
        system_message(ask, deps.system_policy), attempt.history, counted.new, counted.budget
    )
    attempt.from_seq = prompt.from_seq or accepted.opened.input_messages[0].seq
    if accepted.decided:
        return accepted.decided
    request = _continued(msgspec.structs.replace(ask.template, messages=prompt.messages), draft)
    attempt.completion = await deps.gateway.complete(request)
    async with aclosing(attempt.completion):
        return await _record(attempt.completion, draft, started_event(accepted))


def _continued(request: CompletionRequest, draft: Draft) -> CompletionRequest:
    """The same request, to go on from the text that was shown. Each piece of it was about one token."""
    if not draft.text:
        return request
    left = request.sampling.max_tokens and max(1, request.sampling.max_tokens - draft.pieces)
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
    deps.running.cancel(turn_id, STOP)


_BUG = TurnError(code="internal_error", message="Something broke on our side. Send the message again.")


async def _history(who: Principal, opened: OpenedTurn, deps: TurnDeps) -> list[StoredMessage]:
    """The messages before this turn, from the hot window; on a miss from the store."""
    if opened.parent_id is None:
        return []
    window = await deps.hot_window.get(who.tenant_id, opened.conversation.id)
    hit = window is not None and window.leaf_id == opened.parent_id
    deps.observer.hot_window_read(hit=hit)
    if window and hit:
        return window.messages
    from_seq = opened.conversation.window_from_seq
    return await deps.conversations.path(who, opened.conversation.id, opened.parent_id, from_seq)


async def _record(completion: Completion, draft: Draft, started: TurnStarted) -> Outcome:
    """Put the engine's events into the draft until they end."""
    async for event in completion:
        match event:
            case Started():
                if not draft.position:
                    draft.add(started)
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
        await _bill_the_rest(accepted, attempt, deps)
    elif attempt.outcome:
        result = turn_result(accepted, draft, attempt, attempt.outcome)
        await finish_turn(accepted, result, attempt.history, draft, deps.turns, deps.hot_window)
        deps.observer.turn_ended(result.status)
    else:
        await _hand_over(accepted, draft, attempt, deps)
    deps.log.close(accepted.held.tenant_id, accepted.held.turn_id)


async def _hand_over(accepted: AcceptedTurn, draft: Draft, attempt: Attempt, deps: TurnDeps) -> None:
    """A shutdown: another process, or this one's successor, goes on from the text so far."""
    with suppress(StoreUnavailable):  # the lease runs out by itself then
        if attempt.completion:
            await deps.usage.record(bill(accepted, attempt.completion))
        await deps.turns.release(accepted.held, draft.text, draft.position)
    _log.info("turn handed over", turn_id=accepted.held.turn_id, position=draft.position)


async def _bill_the_rest(accepted: AcceptedTurn, attempt: Attempt, deps: TurnDeps) -> None:
    """The new owner bills what the log knows; what was computed since is known only here."""
    _log.info("turn lost to a newer owner", turn_id=accepted.held.turn_id)
    rest = attempt.usage - attempt.logged_usage
    if attempt.completion and rest.total_tokens:
        event = bill(accepted, attempt.completion)
        with suppress(StoreUnavailable):
            await deps.usage.record(msgspec.structs.replace(event, id=f"{event.id}_rest", usage=rest))
