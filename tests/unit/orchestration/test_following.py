"""Following a turn whose replay log was lost, as a whole or behind some entry."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

from triplane.domain.conversation import Principal, TurnRecord
from triplane.domain.events import Delta, LogEntry, TurnEnded, TurnEvent, TurnStarted, TurnStatus, Usage
from triplane.orchestration.following import FollowDeps, follow_turn
from triplane.orchestration.ports import TurnStore
from turn_fakes import MemoryLog

WHO = Principal(tenant_id="tenant", user_id="user")
STARTED = TurnStarted(turn_id="turn", conversation_id="conv", message_id="msg", model="model", created=0)


class OneTurn:
    """The row of an ended turn."""

    def __init__(self, content: str, continued_after: int = 0) -> None:
        self._content = content
        self._continued_after = continued_after

    async def get(self, who: Principal, turn_id: str) -> TurnRecord:
        return TurnRecord(
            id=turn_id,
            conversation_id="conv",
            message_id="msg",
            model="model",
            status="complete",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            content=self._content,
            tool_calls=None,
            finish_reason="stop",
            usage=Usage(),
            error_code=None,
            error_message=None,
            continued_after=self._continued_after,
        )


class CutLog(MemoryLog):
    """A log that says no more than it has."""

    def __init__(self, *events: TurnEvent) -> None:
        super().__init__()
        self.kept = [LogEntry(position=place, event=event) for place, event in enumerate(events, start=1)]

    async def follow(self, tenant_id: str, turn_id: str, after: int) -> AsyncIterator[LogEntry]:
        for entry in [each for each in self.kept if each.position > after]:
            yield entry
            if isinstance(entry.event, TurnEnded):
                return


async def _followed(row: OneTurn, log: MemoryLog, after: int = 0) -> list[LogEntry]:
    deps = FollowDeps(turns=cast(TurnStore, row), log=log)
    async with asyncio.timeout(5):
        return [entry async for entry in follow_turn(WHO, "turn", after, deps)]


def _text(entries: list[LogEntry]) -> str:
    return "".join(entry.event.text for entry in entries if isinstance(entry.event, Delta))


def _end(status: TurnStatus) -> TurnEnded:
    return TurnEnded(status=status, finish_reason="stop", usage=Usage())


async def test_a_follower_from_the_start_gets_the_rest_of_a_cut_log_without_a_seam() -> None:
    entries = await _followed(OneTurn("Hello."), CutLog(STARTED, Delta(text="Hel")))
    assert [entry.position for entry in entries] == [1, 2, 3, 4]
    assert _text(entries) == "Hello."
    assert isinstance(entries[-1].event, TurnEnded)


async def test_who_has_a_part_of_a_lost_log_sees_a_gap_and_reads_from_the_start() -> None:
    row, log = OneTurn("Hello."), CutLog()
    (only,) = await _followed(row, log, after=2)
    assert isinstance(only.event, TurnEnded)
    assert only.position > 3
    entries = await _followed(row, log)
    assert (_text(entries), entries[0].position) == ("Hello.", 1)


async def test_a_resumed_stream_that_the_log_breaks_off_ends_without_an_end() -> None:
    entries = await _followed(OneTurn("Hello."), CutLog(STARTED, Delta(text="H"), Delta(text="e")), after=2)
    assert [entry.position for entry in entries] == [3]


async def test_a_log_written_anew_under_a_follower_ends_its_stream_at_the_gap() -> None:
    log = CutLog(STARTED, Delta(text="He"))
    log.kept += [LogEntry(position=1003, event=STARTED), LogEntry(position=1004, event=Delta(text="Hello."))]
    entries = await _followed(OneTurn("Hello."), log)
    assert [entry.position for entry in entries] == [1, 2]


async def test_the_end_of_an_answer_that_was_continued_is_none() -> None:
    log = CutLog(STARTED, Delta(text="Hel"), _end("incomplete"), Delta(text="lo."), _end("complete"))
    entries = await _followed(OneTurn("Hello.", continued_after=3), log)
    assert [entry.position for entry in entries] == [1, 2, 3, 4, 5]
    assert _text(entries) == "Hello."
    ends = [entry.event for entry in entries if isinstance(entry.event, TurnEnded)]
    assert [end.status for end in ends] == ["complete"]
