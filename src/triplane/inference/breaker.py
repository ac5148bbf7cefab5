"""A circuit breaker: who has failed again and again is left alone until a probe says that it is back."""

from collections.abc import Callable

import msgspec

from triplane.domain.fleet import BreakerState


class BreakerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`failures` in a row open it for `open_s`; for twice as long each time again, `longest_s` at most."""

    failures: int = 5
    open_s: float = 1.0
    longest_s: float = 30.0


_USUAL = BreakerLimits()


class Permit:
    """One call that the breaker let pass. Say how it ended, once: `succeeded`, `failed` or `left`."""

    def __init__(self, breaker: "Breaker", *, is_trial: bool) -> None:
        self._breaker = breaker
        self._is_trial = is_trial

    def answered(self) -> None:
        """The engine has begun to answer: a trial lets others pass now. How it ends still counts."""
        if self._is_trial:
            self._is_trial = False
            self._breaker.passed_trial()

    def succeeded(self) -> None:
        self._breaker.succeeded(is_trial=self._is_trial)

    def failed(self) -> None:
        self._breaker.failed(is_trial=self._is_trial)

    def left(self) -> None:
        """The call ended without telling how the engine is, because its caller went away."""
        if self._is_trial:
            self._breaker.lost_trial()


class Breaker:
    """Ask `allows` before a call, `begin` it, and tell its permit how it went.

    Open: nothing passes. When its time is over, or a probe found the engine well (`recovered`), it is half
    open: one call at a time passes, and decides. Calls that began before it opened decide nothing.
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

    def begin(self) -> Permit:
        """A call that `allows` let pass begins."""
        is_trial = self.state == "half_open" and not self._trying
        self._trying = self._trying or is_trial
        return Permit(self, is_trial=is_trial)

    def recovered(self) -> None:
        """A probe found the engine well: the next call may try."""
        if self._open_until is not None:
            self._open_until = min(self._open_until, self._now())

    def passed_trial(self) -> None:
        """Closed again, on probation: one failure opens it until a call has ended well."""
        self._trying = False
        self._open_until = None
        self._failures = self._limits.failures - 1

    def lost_trial(self) -> None:
        """The trial told nothing: another call may try."""
        self._trying = False

    def succeeded(self, *, is_trial: bool) -> None:
        if is_trial:
            self.passed_trial()
        if self._open_until is None:
            self._failures = self._openings = 0

    def failed(self, *, is_trial: bool) -> None:
        if is_trial:
            self._trying = False
            self._open()
        elif self._open_until is None:
            self._failures += 1
            if self._failures >= self._limits.failures:
                self._open()

    def _open(self) -> None:
        wait_s = self._limits.open_s * 2.0**self._openings
        self._openings = min(self._openings + 1, 16)
        self._open_until = self._now() + min(wait_s, self._limits.longest_s)
