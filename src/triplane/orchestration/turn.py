"""One turn, from what the user sent to the stored answer. Read this file first, top to bottom.

`accept_turn` refuses while a status can still be sent, then opens the turn: user rows and draft, one round
trip. `generate_turn` runs as a task of its own, so the turn belongs to its conversation and not to a
socket: it builds the prompt from the hot window, has the gateway generate, records each event in the replay
log before a client is shown it, finishes the turn in one round trip, and refreshes the hot window.
Clients, this one's included, follow the replay log.
"""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec
import structlog

from triplane.domain.completion import CompletionRequest, Message, ModelCard, text_of
from triplane.domain.conversation import NewMessage, OpenedTurn, Principal, StoredMessage, UsageEvent
from triplane.domain.errors import StoreUnavailable, TriplaneError
from triplane.domain.events import (
    Delta,
    EngineEvent,
    Failed,
    Finished,
    FinishReason,
    Started,
    ToolCallDelta,
    TurnEnded,
    TurnError,
    TurnStarted,
    TurnStatus,
    Usage,
)
from triplane.domain.ids import new_id
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.draft import Draft
from triplane.orchestration.metering import usage_event
from triplane.orchestration.ports import (
    Completion,
    ConversationStore,
    Gateway,
    HotWindow,
    NewTurn,
    NobodyCounts,
    ReplayLog,
    TurnObserver,
    TurnResult,
    TurnStore,
    UsageStore,
    Window,
)
from triplane.orchestration.prompt import Budget, build_prompt, require_fits
from triplane.orchestration.titles import TitleJob, provisional_title

_log = structlog.get_logger(__name__)

FINISH_RETRIES_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 20)
"""Waits between the tries to store an answer while the database is away, in seconds."""

STOP = "stop"
"""Why a turn's task is cancelled when the user stops it; without this word it is a shutdown."""


@dataclass(frozen=True, kw_only=True)
class TurnDeps:
    """What a turn needs; `running` owns the tasks of the turns that this process runs."""

    conversations: ConversationStore
    turns: TurnStore
    hot_window: HotWindow
    log: ReplayLog
    gateway: Gateway
    usage: UsageStore
    running: BackgroundTasks
    system_policy: str
    observer: TurnObserver = field(default_factory=NobodyCounts)


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks of a conversation.

    `template` is the request to the gateway, its messages being the new ones only; `system` holds the
    instructions that the caller gave for this turn alone. `request_id` makes a retry the same turn;
    `body_sha256` tells a retry from another ask under the same id.
    """

    who: Principal
    conversation_id: str
    request_id: str
    body_sha256: bytes
    template: CompletionRequest
    system: list[Message]


class AcceptedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """An opened turn with what generating it needs, counted before it was opened."""

    opened: OpenedTurn
    card: ModelCard
    new: list[NewMessage]
    budget: Budget


async def accept_turn(ask: Ask, deps: TurnDeps) -> OpenedTurn:
    """Open the turn and start generating; a retry gets the turn that runs, or ran, already.

    Raises ModelNotFound, ContextTooLong, EngineUnavailable, NotFound (conversation), IdempotencyKeyReused;
    nothing has been written then.
    """
    card = await deps.gateway.model(ask.template.model)
    new, budget = await _count(ask, card, deps)
    require_fits(new, budget)
    opened = await deps.turns.open(
        ask.who,
        NewTurn(
            turn_id=new_id("turn"),
            request_id=ask.request_id,
            body_sha256=ask.body_sha256,
            conversation_id=ask.conversation_id,
            model=card.id,
            messages=new,
            draft_id=new_id("msg"),
            provisional_title=provisional_title(new[0].message),
        ),
    )
    if opened.created:
        accepted = AcceptedTurn(opened=opened, card=card, new=new, budget=budget)
        deps.log.open(ask.who.tenant_id, opened.turn_id)
        deps.running.start(opened.turn_id, generate_turn(ask, accepted, deps))
    return opened


async def generate_turn(ask: Ask, accepted: AcceptedTurn, deps: TurnDeps) -> None:
    """Generate the answer, record it while it flows, and finish the turn in every case."""
    who, turn_id, message_id = ask.who, accepted.opened.turn_id, accepted.opened.message_id
    async with Draft(
        append=lambda entries: deps.log.append(who.tenant_id, turn_id, entries),
        checkpoint=lambda text: deps.turns.checkpoint(who, turn_id, message_id, text),
    ) as draft:
        outcome = _Outcome(status="failed", error=_BUG)
        completion: Completion | None = None
        history: list[StoredMessage] = []
        from_seq: int | None = None
        try:
            history = await _history(who, accepted.opened, deps)
            prompt = build_prompt(_system(ask, deps), history, accepted.new, accepted.budget)
            from_seq = prompt.from_seq or accepted.opened.input_messages[0].seq
            request = msgspec.structs.replace(ask.template, messages=prompt.messages)
            completion = await deps.gateway.complete(request)
            async with aclosing(completion):
                outcome = await _record(completion, draft, _started(accepted))
        except TriplaneError as error:
            outcome = _Outcome(status="failed", error=TurnError(code=error.code, message=error.message))
        except asyncio.CancelledError as cancelled:
            outcome = _STOPPED if cancelled.args == (STOP,) else _SHUT_DOWN
        finally:
            result = _result(ask, accepted, draft, outcome, completion, from_seq)
            await _finish(who, accepted, result, history, draft, deps)
            deps.log.close(who.tenant_id, turn_id)


async def stop_turn(who: Principal, turn_id: str, deps: TurnDeps) -> None:
    """Stop the turn, before its first token too; what was shown is kept. Raises NotFound.

    A turn that has ended already stays as it is.
    """
    await deps.turns.get(who, turn_id)
    deps.running.cancel(turn_id, STOP)


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    status: TurnStatus
    finish_reason: FinishReason | None = None
    error: TurnError | None = None


_STOPPED = _Outcome(status="stopped", finish_reason="stop")
_SHUT_DOWN = _Outcome(
    status="incomplete",
    error=TurnError(code="overloaded", message="The server was stopped. Continue the answer."),
)
_BUG = TurnError(code="internal_error", message="Something broke on our side. Send the message again.")


async def _count(ask: Ask, card: ModelCard, deps: TurnDeps) -> tuple[list[NewMessage], Budget]:
    """Count the new messages and the fixed part of the prompt, in one call to the engine's tokenizer."""
    system = _system(ask, deps)
    tools = Message(role="system", content=msgspec.json.encode(ask.template.tools or []).decode())
    asked = ask.template.messages
    counts = await deps.gateway.count_tokens(
        card.id, [*asked, *system, *([tools] if ask.template.tools else []), Message(role="user", content="")]
    )
    new = [
        NewMessage(id=new_id("msg"), message=message, token_count=count)
        for message, count in zip(asked, counts, strict=False)
    ]
    budget = Budget(
        context_length=card.context_length,
        max_answer_tokens=ask.template.sampling.max_tokens,
        fixed_tokens=sum(counts[len(asked) :]),
        message_overhead=counts[-1],
    )
    return new, budget


def _system(ask: Ask, deps: TurnDeps) -> list[Message]:
    """One system message: the policy, then what the caller wants for this turn."""
    texts = [deps.system_policy, *(text_of(message.content) for message in ask.system)]
    return [Message(role="system", content="\n\n".join(text for text in texts if text))]


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


async def _record(completion: Completion, draft: Draft, started: TurnStarted) -> _Outcome:
    """Put the engine's events into the draft until they end."""
    async for event in completion:
        match event:
            case Started():
                draft.add(started)
            case Delta() | ToolCallDelta():
                draft.add(event)
            case Finished(reason=reason):
                return _Outcome(status="complete", finish_reason=reason)
            case Failed():
                return _broken(event, draft)
    return _broken(_CUT_OFF, draft)


_CUT_OFF = Failed(code="engine_failed", message="The engine's answer broke off.", retryable=True)


def _broken(failed: EngineEvent, draft: Draft) -> _Outcome:
    """Text that was shown is kept: such an answer is incomplete, one without any has failed."""
    if not isinstance(failed, Failed):
        return _Outcome(status="failed", error=_BUG)
    status: TurnStatus = "incomplete" if draft.text or draft.tool_calls else "failed"
    return _Outcome(status=status, error=TurnError(code=failed.code, message=failed.message))


def _started(accepted: AcceptedTurn) -> TurnStarted:
    opened = accepted.opened
    return TurnStarted(
        turn_id=opened.turn_id,
        conversation_id=opened.conversation.id,
        message_id=opened.message_id,
        model=accepted.card.id,
        created=int(opened.created_at.timestamp()),
    )


def _result(
    ask: Ask,
    accepted: AcceptedTurn,
    draft: Draft,
    outcome: _Outcome,
    completion: Completion | None,
    from_seq: int | None,
) -> TurnResult:
    opened = accepted.opened
    generated = completion.usage.completion_tokens if completion else 0
    return TurnResult(
        turn_id=opened.turn_id,
        conversation_id=opened.conversation.id,
        message_id=opened.message_id,
        status=outcome.status,
        content=draft.text,
        tool_calls=draft.tool_calls,
        finish_reason=outcome.finish_reason,
        token_count=generated + accepted.budget.message_overhead if generated else None,
        usage_event=_bill(ask, opened, completion) if completion else None,
        error=outcome.error,
        window_from_seq=from_seq,
        title_job=_title_job(ask, accepted) if outcome.status == "complete" else None,
    )


def _title_job(ask: Ask, accepted: AcceptedTurn) -> bytes | None:
    """The first turn of a conversation has the model name it."""
    if accepted.opened.parent_id is not None:
        return None
    job = TitleJob(
        tenant_id=ask.who.tenant_id,
        user_id=ask.who.user_id,
        conversation_id=accepted.opened.conversation.id,
        model=accepted.card.id,
    )
    return msgspec.json.encode(job)


def _bill(ask: Ask, opened: OpenedTurn, completion: Completion) -> UsageEvent:
    return usage_event(
        ask.who,
        ask.template,
        completion,
        conversation_id=opened.conversation.id,
        turn_id=opened.turn_id,
    )


async def _finish(
    who: Principal,
    accepted: AcceptedTurn,
    result: TurnResult,
    history: list[StoredMessage],
    draft: Draft,
    deps: TurnDeps,
) -> None:
    """Durable first, announced second: the store, then the terminal event, then the hot window."""
    written = await _write_until_stored(who, result, deps)
    ended = TurnEnded(
        status=result.status,
        finish_reason=result.finish_reason,
        usage=result.usage_event.usage if result.usage_event else Usage(),
        error=result.error,
    )
    if draft.is_empty and result.status == "stopped":
        draft.add(_started(accepted))
    await draft.end(ended)
    _log.info("turn ended", turn_id=result.turn_id, status=result.status, written=written)
    if written:
        deps.observer.turn_ended(result.status)
        window = _window(accepted, result, history)
        await deps.hot_window.put(who.tenant_id, result.conversation_id, window)


async def _write_until_stored(who: Principal, result: TurnResult, deps: TurnDeps) -> bool:
    """Finish the turn, patiently: an answer that was shown outlasts a restart of the database."""
    for wait_s in FINISH_RETRIES_S:
        try:
            return await deps.turns.finish(who, result)
        except StoreUnavailable:
            _log.warning("turn not stored yet", turn_id=result.turn_id, retry_in_s=wait_s)
            await asyncio.sleep(wait_s)
    return await deps.turns.finish(who, result)


def _window(accepted: AcceptedTurn, result: TurnResult, history: list[StoredMessage]) -> Window:
    """The hot window after this turn: what the prompt held, and the answer."""
    opened = accepted.opened
    answer = StoredMessage(
        id=opened.message_id,
        seq=opened.draft_seq,
        role="assistant",
        content=result.content,
        status=result.status,
        created_at=opened.created_at,
        parent_id=opened.input_messages[-1].id,
        turn_id=opened.turn_id,
        tool_calls=result.tool_calls,
        model=accepted.card.id,
        finish_reason=result.finish_reason,
        token_count=result.token_count,
    )
    kept = [row for row in history if row.seq >= (result.window_from_seq or 0)]
    return Window(leaf_id=opened.message_id, messages=[*kept, *opened.input_messages, answer])
