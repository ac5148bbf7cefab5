"""A circuit breaker: who has failed again and again is left alone until a probe says that it is back."""

from collections.abc import Callable
from typing import Literal

import msgspec

BreakerState = Literal["closed", "open", "half_open"]


class BreakerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`failures` in a row open it for `open_s`; for twice as long each time again, `longest_s` at most."""

    failures: int = 5
    open_s: float = 1.0
    longest_s: float = 30.0


_USUAL = BreakerLimits()


class Breaker:
    """Ask `allows` before a call, tell `succeeded` or `failed` after it.

    Open: nothing passes. When its time is over, or a probe found the engine well (`recovered`), it is half
    open: one call at a time passes, and decides.
    """

    def __init__(self, now: Callable[[], float], limits: BreakerLimits = _USUAL) -> None:
        self._now = now
        self._limits = limits
        self._failures = 0
        self._openings = 0
        self._open_until: float | None = None
        self._trying = False

    @property
    def state(self) -> BreakerState:
        if self._open_until is None:
            return "closed"
        return "open" if self._now() < self._open_until else "half_open"

    def allows(self) -> bool:
        state = self.state
        return state == "closed" or (state == "half_open" and not self._trying)

    def began(self) -> None:
        """A call that `allows` let pass begins."""
        self._trying = self._trying or self.state == "half_open"

    def succeeded(self) -> None:
        self._failures = self._openings = 0
        self._open_until = None
        self._trying = False

    def failed(self) -> None:
        self._failures += 1
        if self._trying or (self._open_until is None and self._failures >= self._limits.failures):
            self._open()
        self._trying = False

    def left(self) -> None:
        """The call ended without telling how the engine is, because its caller went away."""
        self._trying = False

    def recovered(self) -> None:
        """A probe found the engine well: the next call may try."""
        if self._open_until is not None:
            self._open_until = min(self._open_until, self._now())

    def _open(self) -> None:
        wait_s = self._limits.open_s * 2.0**self._openings
        self._openings = min(self._openings + 1, 16)
        self._open_until = self._now() + min(wait_s, self._limits.longest_s)
