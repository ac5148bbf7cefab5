"""The end of a turn: its result, its bill, its job, stored before it is announced."""

from collections.abc import Iterable, Sequence

import msgspec
import structlog

from triplane.domain.conversation import StoredMessage, UsageEvent
from triplane.domain.events import TurnEnded, Usage
from triplane.domain.money import CallsMade, EngineCall, usage_of
from triplane.orchestration.announcing import Announcer, announce_end
from triplane.orchestration.asks import AcceptedTurn, Outcome, started_event
from triplane.orchestration.draft import Draft
from triplane.orchestration.history import summary_due, summary_job
from triplane.orchestration.history_ports import HotWindow, Window
from triplane.orchestration.limiting import Reservation
from triplane.orchestration.metering import until_stored, usage_events
from triplane.orchestration.ports import Completion, HeldTurn, Job, TurnResult, TurnStore
from triplane.orchestration.prompt import Budget
from triplane.orchestration.titles import TitleJob

_log = structlog.get_logger(__name__)


class Attempt:
    """One owner's work on a turn, as far as it has come. No outcome: another owner is to go on.

    `before` is the window that it found, `kept` what the prompt has room for, `budget` that room;
    None until they are known.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.outcome: Outcome | None = outcome
        self.completion: Completion | None = None
        self.made = CallsMade()
        self.before: Window | None = None
        self.kept: Window | None = None
        self.budget: Budget | None = None

    @property
    def usage(self) -> Usage:
        return self.completion.usage if self.completion else usage_of(self.made.calls)

    @property
    def calls(self) -> Sequence[EngineCall]:
        return self.completion.calls if self.completion else self.made.calls

    def settle(self, reservation: Reservation) -> None:
        """What was taken of the limits becomes what was used: nothing, if no engine has computed."""
        if self.completion or self.usage.total_tokens:
            reservation.settle(self.usage)
        else:
            reservation.refund()


def call_usage_id(held: HeldTurn, call: EngineCall) -> str:
    """Each engine call of each owner's attempt at a turn is one usage event, whoever writes it."""
    return f"usage_{held.turn_id.removeprefix('turn_')}_{held.fence}_{call.attempt}"


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
        log_position=draft.position + (1 if draft.position or outcome.status != "stopped" else 2),
        tool_calls=draft.tool_calls,
        finish_reason=outcome.finish_reason,
        token_count=_token_count(accepted, generated),
        usage_events=bill(accepted, accepted.held, attempt.calls),
        earlier_usage=earlier,
        error=outcome.error,
        window_from_seq=_from_seq(accepted, attempt.kept),
        window_summary=_told_upto(attempt.kept),
        time_to_first_token_ms=_first_token_ms(accepted, draft),
    )


def _first_token_ms(accepted: AcceptedTurn, draft: Draft) -> int | None:
    """Since this owner began; None where an earlier one, or the answer that goes on, has shown the first."""
    shown = draft.time_to_first_token_s
    if shown is None or accepted.begins_after or (accepted.recovered and accepted.recovered.entries):
        return None
    return round(shown * 1000)


def _token_count(accepted: AcceptedTurn, generated: int) -> int | None:
    """The answer's tokens in a prompt; None if they have to be counted."""
    if continues := accepted.counted.continues:
        return None if continues.token_count is None else continues.token_count + generated
    return generated + accepted.counted.budget.message_overhead if generated else None


def _from_seq(accepted: AcceptedTurn, kept: Window | None) -> int | None:
    if kept is None:
        return None
    first = next(iter([*kept.messages, *accepted.opened.input_messages]), None)
    return first.seq if first else accepted.opened.draft_seq


def _told_upto(kept: Window | None) -> str | None:
    return kept.summary.from_message_id if kept and kept.summary else None


def _title_job(accepted: AcceptedTurn) -> Job:
    """The first turn of a conversation has the model name it."""
    job = TitleJob(
        tenant_id=accepted.ask.who.tenant_id,
        user_id=accepted.ask.who.user_id,
        conversation_id=accepted.opened.conversation.id,
        model=accepted.counted.card.id,
    )
    return Job(
        entrypoint="generate_title",
        payload=msgspec.json.encode(job),
        dedupe_key=f"generate_title:{job.conversation_id}",
    )


def bill(accepted: AcceptedTurn, held: HeldTurn, calls: Iterable[EngineCall]) -> list[UsageEvent]:
    """What the attempt of the turn's owner `held` has cost."""
    return usage_events(
        accepted.ask.who,
        accepted.ask.template,
        calls,
        conversation_id=accepted.opened.conversation.id,
        turn_id=accepted.opened.turn_id,
        id_of=lambda call: call_usage_id(held, call),
    )


async def finish_turn(
    accepted: AcceptedTurn,
    result: TurnResult,
    attempt: Attempt,
    draft: Draft,
    turns: TurnStore,
    hot_window: HotWindow,
    announcer: Announcer,
) -> bool:
    """Durable first, announced second: the store; then together, in one round trip, the hot window, the
    user's devices and the terminal event.

    False, with nothing announced, if the turn had ended already or has a newer owner.
    """
    who = accepted.ask.who
    window = _window_after(accepted, result, attempt.kept) if attempt.kept else None
    result = msgspec.structs.replace(result, jobs=_jobs(accepted, result, attempt, window))
    if not await until_stored(lambda: turns.finish(who, result)):
        return False
    if window:
        hot_window.put(who.tenant_id, result.conversation_id, window)
    announce_end(announcer, who, accepted.opened, result.status)
    if not draft.position and result.status == "stopped":
        draft.add(started_event(accepted))
    await draft.end(
        TurnEnded(
            status=result.status,
            finish_reason=result.finish_reason,
            usage=result.usage + result.earlier_usage,
            error=result.error,
        )
    )
    _log.info("turn ended", turn_id=result.turn_id, status=result.status)
    return True


def _jobs(accepted: AcceptedTurn, result: TurnResult, attempt: Attempt, window: Window | None) -> list[Job]:
    is_first = accepted.opened.parent_id is None
    jobs = [_title_job(accepted)] if is_first and result.status == "complete" else []
    if window and attempt.before and attempt.kept:
        was_cut = attempt.kept is not attempt.before
        due = summary_due(attempt.kept, window, attempt.budget or accepted.counted.budget, was_cut=was_cut)
        if due:
            model = accepted.counted.card.id
            jobs.append(summary_job(accepted.ask.who, result.conversation_id, model, due))
    return jobs


def _window_after(accepted: AcceptedTurn, result: TurnResult, kept: Window) -> Window:
    """The hot window after this turn: what the prompt held, and the answer."""
    opened = accepted.opened
    answer = StoredMessage(
        id=opened.message_id,
        seq=opened.draft_seq,
        role="assistant",
        content=result.content,
        status=result.status,
        created_at=opened.created_at,
        parent_id=opened.input_messages[-1].id if opened.input_messages else opened.parent_id,
        turn_id=opened.turn_id,
        tool_calls=result.tool_calls,
        model=accepted.counted.card.id,
        finish_reason=result.finish_reason,
        token_count=result.token_count,
    )
    return Window(
        leaf_id=opened.message_id,
        messages=[*kept.messages, *opened.input_messages, answer],
        summary=kept.summary,
    )
