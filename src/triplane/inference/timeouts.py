"""How long a completion may take, and the watch that holds it to that."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec

from triplane.domain.errors import FirstTokenTimeout, StreamStalled, TriplaneError

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds. `first_token_s` counts from the call, waiting in the engine's own queue included;
    `inter_token_s` only while somebody waits for the engine; `total_s` is the whole answer, whatever calls
    it took.
    """

    connect_s: Seconds = 5.0
    first_token_s: Seconds = 180.0
    inter_token_s: Seconds = 60.0
    total_s: Seconds = 1800.0


class Watch:
    """One timer for a whole stream, moved lazily: a token costs an assignment, not a timer.

    Tell it when a read begins and ends; when one takes too long it calls `expire` with the reason, once.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        called_at: float,
        end_by: float,
        expire: Callable[[TriplaneError], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._expire = expire
        self._first_by = called_at + timeouts.first_token_s
        self._end_by = end_by
        self._waiting_since: float | None = None
        self.has_token = False
        self._timer = self._loop.call_at(min(self._first_by, self._end_by), self._look)

    def read_begins(self) -> None:
        self._waiting_since = self._loop.time()

    def read_ended(self) -> None:
        self._waiting_since = None

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        """Expire, or come back when the next limit could be reached."""
        now = self._loop.time()
        stall_by = self._stall_by(now)
        if now >= self._end_by:
            self._expire(StreamStalled("The answer took longer than it may in all."))
        elif now >= stall_by:
            self._expire(self._stalled())
        else:
            self._timer = self._loop.call_at(min(stall_by, self._end_by), self._look)

    def _stall_by(self, now: float) -> float:
        if not self.has_token:
            return self._first_by if self._waiting_since is not None or now < self._first_by else now + 1.0
        since = now if self._waiting_since is None else self._waiting_since
        return since + self._timeouts.inter_token_s

    def _stalled(self) -> TriplaneError:
        if self.has_token:
            return StreamStalled("The engine stopped in the middle of its answer.")
        return FirstTokenTimeout("The engine gave no first token in time. Try again.")
