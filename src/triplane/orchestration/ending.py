"""The end of a turn: its result, its bill, its job, stored before it is announced."""

import asyncio

import msgspec
import structlog

from triplane.domain.conversation import Principal, StoredMessage, UsageEvent
from triplane.domain.errors import StoreUnavailable
from triplane.domain.events import TurnEnded, Usage
from triplane.orchestration.asks import AcceptedTurn, Outcome, started_event
from triplane.orchestration.draft import Draft
from triplane.orchestration.metering import usage_event
from triplane.orchestration.ports import Completion, HeldTurn, HotWindow, TurnResult, TurnStore, Window
from triplane.orchestration.titles import TitleJob

_log = structlog.get_logger(__name__)

FINISH_RETRIES_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 20)
"""Waits between the tries to store an answer while the database is away, in seconds."""


class Attempt:
    """One owner's work on a turn, as far as it has come. No outcome: another owner is to go on."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome: Outcome | None = outcome
        self.completion: Completion | None = None
        self.history: list[StoredMessage] = []
        self.from_seq: int | None = None
        self.logged_usage = Usage()

    @property
    def usage(self) -> Usage:
        return self.completion.usage if self.completion else Usage()


def attempt_usage_id(held: HeldTurn) -> str:
    """Each owner's attempt at a turn is one usage event, whoever writes it."""
    return f"usage_{held.turn_id.removeprefix('turn_')}_{held.fence}"


def turn_result(accepted: AcceptedTurn, draft: Draft, attempt: Attempt, outcome: Outcome) -> TurnResult:
    opened, recovered = accepted.opened, accepted.recovered
    earlier = recovered.usage if recovered else Usage()
    generated = attempt.usage.completion_tokens + earlier.completion_tokens
    return TurnResult(
        turn_id=opened.turn_id,
        fence=opened.fence,
        conversation_id=opened.conversation.id,
        message_id=opened.message_id,
        status=outcome.status,
        content=draft.text,
        tool_calls=draft.tool_calls,
        finish_reason=outcome.finish_reason,
        token_count=generated + accepted.counted.budget.message_overhead if generated else None,
        usage_event=bill(accepted, attempt.completion) if attempt.completion else None,
        earlier_usage=earlier,
        error=outcome.error,
        window_from_seq=attempt.from_seq,
        title_job=_title_job(accepted) if outcome.status == "complete" else None,
    )


def _title_job(accepted: AcceptedTurn) -> bytes | None:
    """The first turn of a conversation has the model name it."""
    if accepted.opened.parent_id is not None:
        return None
    job = TitleJob(
        tenant_id=accepted.ask.who.tenant_id,
        user_id=accepted.ask.who.user_id,
        conversation_id=accepted.opened.conversation.id,
        model=accepted.counted.card.id,
    )
    return msgspec.json.encode(job)


def bill(accepted: AcceptedTurn, completion: Completion) -> UsageEvent:
    """What this owner's attempt has cost."""
    event = usage_event(
        accepted.ask.who,
        accepted.ask.template,
        completion,
        conversation_id=accepted.opened.conversation.id,
        turn_id=accepted.opened.turn_id,
    )
    return msgspec.structs.replace(event, id=attempt_usage_id(accepted.held))


async def finish_turn(
    accepted: AcceptedTurn,
    result: TurnResult,
    history: list[StoredMessage],
    draft: Draft,
    turns: TurnStore,
    hot_window: HotWindow,
) -> None:
    """Durable first, announced second: the store, then the terminal event, then the hot window."""
    who = accepted.ask.who
    if not await _write_until_stored(who, result, turns):
        return
    if not draft.position and result.status == "stopped":
        draft.add(started_event(accepted))
    usage = result.usage_event.usage if result.usage_event else Usage()
    await draft.end(
        TurnEnded(
            status=result.status,
            finish_reason=result.finish_reason,
            usage=usage + result.earlier_usage,
            error=result.error,
        )
    )
    _log.info("turn ended", turn_id=result.turn_id, status=result.status)
    window = _window(accepted, result, history)
    await hot_window.put(who.tenant_id, result.conversation_id, window)


async def _write_until_stored(who: Principal, result: TurnResult, turns: TurnStore) -> bool:
    """Finish the turn, patiently: an answer that was shown outlasts a restart of the database."""
    for wait_s in FINISH_RETRIES_S:
        try:
            return await turns.finish(who, result)
        except StoreUnavailable:
            _log.warning("turn not stored yet", turn_id=result.turn_id, retry_in_s=wait_s)
            await asyncio.sleep(wait_s)
    return await turns.finish(who, result)


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
        model=accepted.counted.card.id,
        finish_reason=result.finish_reason,
        token_count=result.token_count,
    )
    kept = [row for row in history if row.seq >= (result.window_from_seq or 0)]
    return Window(leaf_id=opened.message_id, messages=[*kept, *opened.input_messages, answer])
