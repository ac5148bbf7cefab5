"""The answer while it grows: its text for the store, its events for the replay log.

Events are numbered as they come and written to the log in batches, one every `FLUSH_S` at most, by a task
of the draft's own: the engine is read at its own pace, and a token never waits for a timer unless another
has just been written. About once a second the text so far goes to the draft's row, so that losing the
log loses nothing that was shown for longer than that.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from triplane.domain.answer import GrowingAnswer
from triplane.domain.completion import ToolCall
from triplane.domain.errors import StoreUnavailable
from triplane.domain.events import LogEntry, TurnEnded, TurnEvent

FLUSH_S = 0.02
CHECKPOINT_S = 1.0


class AppendsToLog(Protocol):
    async def __call__(self, entries: list[LogEntry]) -> None: ...


class SavesText(Protocol):
    async def __call__(self, text: str) -> None: ...


class Draft:
    """Use as a context manager; `end` writes the terminal event and leaving waits for nothing more."""

    def __init__(
        self, append: AppendsToLog, checkpoint: SavesText, clock: Callable[[], float] = monotonic
    ) -> None:
        self._append = append
        self._checkpoint = checkpoint
        self._clock = clock
        self._position = 0
        self._pending: list[LogEntry] = []
        self._wake = asyncio.Event()
        self._appending = asyncio.Lock()
        self._answer = GrowingAnswer()
        self._writer: asyncio.Task[None] | None = None
        self._saver: asyncio.Task[None] | None = None

    @property
    def text(self) -> str:
        return self._answer.text

    @property
    def tool_calls(self) -> list[ToolCall] | None:
        return self._answer.tool_calls

    @property
    def is_empty(self) -> bool:
        return self._position == 0

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write())
        self._saver = asyncio.create_task(self._save())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [task for task in (self._writer, self._saver) if task]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def add(self, event: TurnEvent) -> None:
        """Number the event and hand it to the writer."""
        self._answer.add(event)
        self._position += 1
        self._pending.append(LogEntry(position=self._position, event=event))
        self._wake.set()

    async def end(self, ended: TurnEnded) -> None:
        """Write what is pending and the terminal event; returns when the log has them."""
        self.add(ended)
        if self._writer:
            async with self._appending:  # so that the writer is cancelled between two batches, never in one
                self._writer.cancel()
            await asyncio.wait([self._writer])
        await self._flush()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            started = self._clock()
            await self._flush()
            await asyncio.sleep(max(0.0, FLUSH_S - (self._clock() - started)))

    async def _flush(self) -> None:
        async with self._appending:
            self._wake.clear()
            batch, self._pending = self._pending, []
            if batch:
                await self._append(batch)

    async def _save(self) -> None:
        saved = 0
        while True:
            await asyncio.sleep(CHECKPOINT_S)
            if self._answer.pieces > saved:
                saved = self._answer.pieces
                with suppress(StoreUnavailable):  # the next checkpoint, or the end, writes all of it
                    await self._checkpoint(self.text)
