"""What a route did in the last minute, counted by the second: small, and cheap enough for every token."""

import math
from collections import deque
from collections.abc import Callable, Sequence

from triplane.domain.fleet import Recent

WINDOW_S = 60
MOST_TIMES = 4096
"""Times to the first token that are kept; a route with more in a minute tells of the newest ones."""


class _Second:
    __slots__ = ("calls", "errors", "number", "tokens")

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = self.errors = self.tokens = 0


class RecentCalls:
    """`now` in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since: float | None = None
        self._second = _Second(0)
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_S)
        self._first_tokens: deque[tuple[float, float]] = deque(maxlen=MOST_TIMES)

    def first_token(self, ttft_s: float) -> None:
        self._first_tokens.append((self._now(), ttft_s))

    def token(self) -> None:
        """A piece of an answer came: about one token, until `ended` knows better."""
        self._current().tokens += 1

    def ended(self, more_tokens: int, *, is_error: bool) -> None:
        """A call is over, and had so many tokens more (or, below zero, fewer) than pieces."""
        second = self._current()
        second.calls += 1
        second.errors += is_error
        second.tokens += more_tokens

    def view(self) -> Recent:
        now = self._now()
        after = int(now) - WINDOW_S
        seconds = [each for each in self._seconds if each.number > after]
        times = sorted(ttft for at, ttft in self._first_tokens if at > now - WINDOW_S)
        tokens = max(0, sum(each.tokens for each in seconds))
        return Recent(
            calls=sum(each.calls for each in seconds),
            errors=sum(each.errors for each in seconds),
            tokens_per_s=round(tokens / self._age_s(now), 1),
            ttft_p50_s=_quantile(times, 0.5),
            ttft_p95_s=_quantile(times, 0.95),
        )

    def _age_s(self, now: float) -> float:
        """How much of the minute the route has been in use."""
        return WINDOW_S if self._since is None else min(max(now - self._since, 1.0), WINDOW_S)

    def _current(self) -> _Second:
        now = self._now()
        number = int(now)
        second = self._second
        if second.number != number:
            if self._since is None:
                self._since = now
            second = self._second = _Second(number)
            self._seconds.append(second)
        return second


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value that this share of all lies at or below; None of nothing."""
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 4)
