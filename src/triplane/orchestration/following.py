"""Following a turn: its replay log from any position, and its row once the log is gone."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec

from triplane.domain.conversation import OpenedTurn, Principal, TurnRecord
from triplane.domain.events import (
    Delta,
    Finished,
    LogEntry,
    ToolCallDelta,
    TurnEnded,
    TurnError,
    TurnEvent,
    TurnStarted,
)
from triplane.orchestration.ports import ReplayLog, TurnStore


@dataclass(frozen=True, kw_only=True)
class FollowDeps:
    turns: TurnStore
    log: ReplayLog


ASK_AGAIN_S = 0.2
"""The pause before a log that said nothing is asked again: it may be that its store can't be reached."""


async def follow_turn(
    who: Principal, turn_id: str, after: int, deps: FollowDeps, known: TurnRecord | None = None
) -> AsyncGenerator[LogEntry, None]:
    """The turn's events behind position `after`, to its end. Raises NotFound, also for another's turn.

    A log that has expired or was lost is told again from the row: its start, all of its text, its end. Who
    had a part of it is told the end alone, with a gap before its position, and so reads from the start. Of
    a log that is written anew meanwhile nothing more is told: the next connection begins with the gap.

    `known` is the turn's row for who has it already, so that it isn't asked for until it may have changed.
    """
    last, told = after, 0
    while True:
        record, known, before = known or await deps.turns.get(who, turn_id), None, last
        async for entry in deps.log.follow(who.tenant_id, turn_id, last):
            if after < last < entry.position - 1:
                return
            last = entry.position
            told += _length(entry.event)
            yield _without_former_end(entry, record)
            if isinstance(entry.event, TurnEnded) and last > record.continued_after:
                return
        if last == before:
            if record.status != "streaming":
                break
            await asyncio.sleep(ASK_AGAIN_S)
    for entry in _rest(record, after, last, told):
        yield entry


def just_opened(opened: OpenedTurn, model: str) -> TurnRecord | None:
    """The row of a turn that begins here and now; None for one that was known."""
    if not opened.created:
        return None
    return TurnRecord(
        id=opened.turn_id,
        conversation_id=opened.conversation.id,
        message_id=opened.message_id,
        model=model,
        status="streaming",
        created_at=opened.created_at,
        content="",
    )


def _without_former_end(entry: LogEntry, record: TurnRecord) -> LogEntry:
    """The end of an answer that was continued is none; its position stays, so that there is no gap."""
    if isinstance(entry.event, TurnEnded) and entry.position <= record.continued_after:
        event = Finished(reason=entry.event.finish_reason or "stop", usage=entry.event.usage)
        return msgspec.structs.replace(entry, event=event)
    return entry


def _length(event: TurnEvent) -> int:
    return len(event.text) if isinstance(event, Delta) else 0


def _rest(record: TurnRecord, after: int, last: int, told: int) -> list[LogEntry]:
    """What the log hasn't told of a turn that has ended.

    Whoever was told all of it so far gets the rest without a seam. Where it broke off for one who came with
    a position, nothing more is said: the next connection begins with the gap.
    """
    retold = _retold(record)
    if last <= 1:
        return [entry for entry in retold if entry.position > last]
    ended = retold[-1]
    if after == 0 and not record.tool_calls:
        rest = Delta(text=(record.content or "")[told:])
        events = [rest, ended.event] if rest.text else [ended.event]
        return [LogEntry(position=last + place, event=event) for place, event in enumerate(events, start=1)]
    if last > after:
        return []
    return [msgspec.structs.replace(ended, position=last + 2)]


def _retold(record: TurnRecord) -> list[LogEntry]:
    events: list[TurnEvent] = [
        TurnStarted(
            turn_id=record.id,
            conversation_id=record.conversation_id,
            message_id=record.message_id,
            model=record.model,
            created=int(record.created_at.timestamp()),
        )
    ]
    if record.content:
        events.append(Delta(text=record.content))
    for index, call in enumerate(record.tool_calls or []):
        function = call.function
        events.append(
            ToolCallDelta(index=index, id=call.id, name=function.name, arguments=function.arguments)
        )
    events.append(_ended(record))
    return [LogEntry(position=place, event=event) for place, event in enumerate(events, start=1)]


def _ended(record: TurnRecord) -> TurnEnded:
    error = None
    if record.error_code:
        error = TurnError(code=record.error_code, message=record.error_message or "")
    return TurnEnded(
        status=record.status, finish_reason=record.finish_reason, usage=record.usage, error=error
    )
