"""Following a turn: its replay log from any position, and its row once the log is gone."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec

from triplane.domain.conversation import Principal, TurnRecord
from triplane.domain.events import (
    Delta,
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


async def follow_turn(
    who: Principal, turn_id: str, after: int, deps: FollowDeps
) -> AsyncGenerator[LogEntry, None]:
    """The turn's events behind position `after`, to its end. Raises NotFound, also for another's turn.

    A log that has expired is told again from the row: its start, all of its text, its end.
    """
    record = await deps.turns.get(who, turn_id)
    last = after
    while True:
        async for entry in deps.log.follow(who.tenant_id, turn_id, last):
            last = entry.position
            yield entry
            if isinstance(entry.event, TurnEnded):
                return
        if record.status != "streaming":
            break
        record = await deps.turns.get(who, turn_id)
    for entry in _retold(record):
        if isinstance(entry.event, TurnEnded):
            yield msgspec.structs.replace(entry, position=max(entry.position, last + 1))
        elif entry.position > last:
            yield entry


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
