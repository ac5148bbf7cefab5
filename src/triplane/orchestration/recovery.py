"""Turns whose owner is gone: taken over, and continued from the text that was shown.

Every process that runs turns looks for lapsed leases. Whoever claims a turn raises its fence, so that an
owner which was only paused writes nothing when it wakes, reads the replay log, and goes on from its last
word where the engine can continue an answer; where it can't, the turn ends as `incomplete`.
"""

import asyncio

import msgspec
import structlog

from triplane.domain.answer import GrowingAnswer
from triplane.domain.completion import ModelCard
from triplane.domain.conversation import UsageEvent
from triplane.domain.errors import TriplaneError
from triplane.domain.events import Delta, Finished, LogEntry, TurnError, TurnEvent, TurnStarted
from triplane.orchestration.asks import STOPPED, AcceptedTurn, CountedAsk, Outcome, started_event
from triplane.orchestration.ending import attempt_usage_id
from triplane.orchestration.ports import HeldTurn, LapsedTurn, LoggedAttempt, Recovered, ReplayLog
from triplane.orchestration.turn import TurnDeps, generate_turn

LOOK_EVERY_S = 1.0
CLAIM_AT_ONCE = 16

SKIPPED = 1000
"""Positions that a log written anew leaves out: more than an owner shows between two checkpoints."""

_log = structlog.get_logger(__name__)

_CANNOT_CONTINUE = Outcome(
    status="incomplete",
    error=TurnError(
        code="engine_failed", message="The answer broke off, and its engine can't go on with it. Ask again."
    ),
)


async def recover_turns(deps: TurnDeps) -> None:
    """Take lapsed turns over, for as long as this process lives.

    While the store was away the leases of healthy turns lapsed too: their owners get time to renew.
    """
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            await take_over_lapsed(deps)
        except TriplaneError as error:
            _log.warning("lapsed turns not looked for", reason=error.code)
            await asyncio.sleep(3 * LOOK_EVERY_S)


async def take_over_lapsed(deps: TurnDeps) -> int:
    """Claim what has lapsed; returns how many turns that were."""
    lapsed = await deps.turns.claim_lapsed(deps.owner, CLAIM_AT_ONCE)
    for turn in lapsed:
        await _take_over(turn, deps)
    return len(lapsed)


async def _take_over(lapsed: LapsedTurn, deps: TurnDeps) -> None:
    counted = msgspec.json.decode(lapsed.request, type=CountedAsk)
    accepted = AcceptedTurn(counted=counted, opened=lapsed.opened)
    held = accepted.held
    deps.log.open(held.tenant_id, held.turn_id)
    recovered = await recovered_log(accepted, lapsed.content, lapsed.log_position, deps.log)
    entries = recovered.entries
    for attempt in recovered.attempts:
        await _bill(attempt, lapsed, counted, deps)
    accepted = msgspec.structs.replace(
        accepted,
        recovered=recovered,
        decided=_decided(entries, accepted.begins_after, lapsed, counted.card),
    )
    _log.info("turn taken over", turn_id=held.turn_id, fence=held.fence, entries=len(entries))
    deps.running.start(held.turn_id, generate_turn(accepted, deps))


async def recovered_log(accepted: AcceptedTurn, text: str, position: int, log: ReplayLog) -> Recovered:
    """Take the log over; written anew from the turn's row, if it lacks what the row has or can't be read.

    That begins far behind `position`, so that no client takes its entries for those that follow its own.
    """
    recovered = await log.take_over(accepted.held)
    last = recovered.entries[-1].position if recovered.entries else 0
    logged = GrowingAnswer()
    for entry in recovered.entries:
        logged.add(entry.event)
    if recovered.is_read and len(logged.text) >= len(text) and last >= accepted.begins_after:
        entries = recovered.entries
    else:
        entries = _anew(accepted, text, max(last, position) + SKIPPED)
        await log.rewrite(accepted.held, entries)
    # What an attempt cost that came to its end was billed there.
    attempts = [attempt for attempt in recovered.attempts if attempt.position > accepted.begins_after]
    return Recovered(entries=entries, attempts=attempts)


def _anew(accepted: AcceptedTurn, text: str, last: int) -> list[LogEntry]:
    """A log of the turn's start and this text, behind position `last`."""
    events: list[TurnEvent] = [started_event(accepted), *([Delta(text=text)] if text else [])]
    return [LogEntry(position=place, event=event) for place, event in enumerate(events, start=last + 1)]


def _decided(
    entries: list[LogEntry], begins_after: int, lapsed: LapsedTurn, card: ModelCard
) -> Outcome | None:
    """How the turn ends without another token, if it does."""
    entries = [entry for entry in entries if entry.position > begins_after]
    for entry in entries:
        if isinstance(entry.event, Finished):
            return Outcome(status="complete", finish_reason=entry.event.reason)
    if lapsed.stop_requested:
        return STOPPED
    has_begun = any(not isinstance(entry.event, TurnStarted) for entry in entries)
    is_text = all(isinstance(entry.event, TurnStarted | Delta) for entry in entries)
    if has_begun and not (is_text and card.supports_continuation):
        return _CANNOT_CONTINUE
    return None


async def _bill(attempt: LoggedAttempt, lapsed: LapsedTurn, counted: CountedAsk, deps: TurnDeps) -> None:
    """What an earlier owner's attempt had cost; its id makes a second try at this the same event."""
    if not attempt.usage.total_tokens:
        return
    who, turn_id = counted.ask.who, lapsed.opened.turn_id
    await deps.usage.record(
        UsageEvent(
            id=attempt_usage_id(HeldTurn(tenant_id=who.tenant_id, turn_id=turn_id, fence=attempt.fence)),
            tenant_id=who.tenant_id,
            user_id=who.user_id,
            api_key_id=who.api_key_id,
            request_id=counted.ask.template.request_id,
            model=counted.card.id,
            engine="taken over",
            usage=attempt.usage,
            conversation_id=counted.ask.conversation_id,
            turn_id=turn_id,
        )
    )
