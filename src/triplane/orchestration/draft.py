"""The answer while it grows: its text for the store, its events for the replay log, and the turn's lease.

Events are numbered as they come and written to the log in batches by a task of the draft's own: the engine
is read at its own pace, and a token never waits for a timer unless another has just been written. Then it
waits for the next of the moments, `FLUSH_S` apart, that all drafts of the process share: what is written
then shares its round trip, and the system calls of all who follow. About once a second the lease is renewed
and the text so far goes to the draft's row, so that losing the log loses nothing that was shown for longer.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Literal, Protocol, Self

from triplane.domain.answer import GrowingAnswer
from triplane.domain.completion import ToolCall
from triplane.domain.errors import StoreUnavailable
from triplane.domain.events import Delta, LogEntry, ToolCallDelta, TurnEnded, TurnEvent
from triplane.orchestration.metering import until_stored
from triplane.orchestration.ports import LEASE_S, Renewal

FLUSH_S = 0.02
_TIMER_S = 0.002
RENEW_S = 1.0

SURE_S = LEASE_S - RENEW_S
"""How long after a renewal nobody else can have the turn, whatever this process slept through."""

Interruption = Literal["stop", "lost"]
"""The user wants the turn stopped, or it has another owner now."""


class AppendsToLog(Protocol):
    async def __call__(self, entries: list[LogEntry]) -> bool: ...


class RenewsLease(Protocol):
    async def __call__(self, text: str, position: int) -> Renewal: ...


class Draft:
    """Use as a context manager. `interrupt` is called, once, when the turn must not go on here."""

    def __init__(
        self,
        append: AppendsToLog,
        show: Callable[[list[LogEntry]], None],
        renew: RenewsLease,
        interrupt: Callable[[Interruption], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._append = append
        self._show = show
        self._renew = renew
        self._interrupt = interrupt
        self._clock = clock
        self._renewed_at = clock()
        self._answer = GrowingAnswer()
        self._pending: list[LogEntry] = []
        self._wake = asyncio.Event()
        self._appending = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._begun_at = clock()
        self.time_to_first_token_s: float | None = None
        self.position = 0
        self.is_lost = False

    @property
    def text(self) -> str:
        return self._answer.text

    @property
    def tool_calls(self) -> list[ToolCall] | None:
        return self._answer.tool_calls

    @property
    def pieces(self) -> int:
        return self._answer.pieces

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._hold())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def recover(self, entries: list[LogEntry]) -> None:
        """Begin where an earlier owner was."""
        for entry in entries:
            self._answer.add(entry.event)
            self.position = entry.position

    def add(self, event: TurnEvent) -> None:
        """Number the event and hand it to the writer."""
        self._answer.add(event)
        if self.time_to_first_token_s is None and isinstance(event, Delta | ToolCallDelta):
            self.time_to_first_token_s = self._clock() - self._begun_at
        self.position += 1
        self._pending.append(LogEntry(position=self.position, event=event))
        self._wake.set()

    async def settle(self) -> None:
        """Write what is pending; nothing is written by itself any more."""
        writer, _ = self._tasks
        async with self._appending:  # so that the writer is cancelled between two batches, never in one
            writer.cancel()
        await asyncio.wait([writer])
        await self._flush()

    async def end(self, ended: TurnEnded) -> None:
        """Write the terminal event; returns when the log has it."""
        self.add(ended)
        await self._flush(is_surely_ours=True)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            await self._flush()
            await asyncio.sleep(_until_next_moment(self._clock()))

    async def _flush(self, *, is_surely_ours: bool = False) -> None:
        async with self._appending:
            self._wake.clear()
            batch, self._pending = self._pending, []
            if not batch or self.is_lost:
                return
            try:
                is_ours = await self._append(batch)
            except StoreUnavailable:
                if is_ours := is_surely_ours or await self._is_ours():
                    self._show(batch)
            if not is_ours:
                self._lose()

    async def _is_ours(self) -> bool:
        """Whether the turn is this owner's still, as far as the lease tells; what the log can't say.

        An append may have failed because this process slept, and another owner may go on meanwhile.
        """
        if self._clock() - self._renewed_at < SURE_S:
            return True
        with suppress(StoreUnavailable):
            return await until_stored(self._renewal) != "lost"
        return False

    async def _renewal(self) -> Renewal:
        began = self._clock()
        renewal = await self._renew(self.text, self.position)
        if renewal != "lost":
            self._renewed_at = began
        return renewal

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(StoreUnavailable):  # the next renewal, or the end, writes all of the text
                match await self._renewal():
                    case "lost":
                        self._lose()
                    case "stop":
                        self._interrupt("stop")
                    case "held":
                        pass

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._interrupt("lost")


def _until_next_moment(now: float) -> float:
    """Seconds; a moment that is nearer than the loop's timers are exact is this one."""
    return _TIMER_S + FLUSH_S - (now + _TIMER_S) % FLUSH_S
