"""What a route did in the last minute: counters, and what they were at each second of it."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from triplane.domain.fleet import Recent

WINDOW_S = 60.0
MARK_EVERY_S = 1.0
MOST_TIMES = 4096
"""Times to the first token that are kept; a route with more in a minute tells of the newest ones."""


class _Mark(NamedTuple):
    at: float
    tokens: int
    calls: int
    errors: int


class RecentCalls:
    """`tokens`: whoever reads an answer adds each piece to it, about one token, and the rest with `ended`.

    `mark` is to be called about once a second. `now` in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.tokens = 0
        self._now = now
        self._calls = self._errors = 0
        self._marks: deque[_Mark] = deque(maxlen=math.ceil(WINDOW_S / MARK_EVERY_S) + 2)
        self._first_tokens: deque[tuple[float, float]] = deque(maxlen=MOST_TIMES)

    def first_token(self, ttft_s: float) -> None:
        """The first token of a call came, before it is added to `tokens`."""
        self.mark()
        self._first_tokens.append((self._now(), ttft_s))

    def ended(self, more_tokens: int, *, is_error: bool) -> None:
        """A call is over, and had so many tokens more (or, below zero, fewer) than pieces."""
        self.mark()
        self._calls += 1
        self._errors += is_error
        self.tokens += more_tokens

    def mark(self) -> None:
        """Note how far the counters have come, unless that was done within the second."""
        now = self._now()
        if not self._marks or now - self._marks[-1].at >= MARK_EVERY_S:
            self._marks.append(_Mark(now, self.tokens, self._calls, self._errors))

    def view(self) -> Recent:
        now = self._now()
        while len(self._marks) > 1 and self._marks[1].at <= now - WINDOW_S:
            self._marks.popleft()
        since = self._marks[0] if self._marks else _Mark(now, 0, 0, 0)
        times = sorted(ttft for at, ttft in self._first_tokens if at > now - WINDOW_S)
        return Recent(
            calls=self._calls - since.calls,
            errors=self._errors - since.errors,
            tokens_per_s=round(max(0, self.tokens - since.tokens) / max(now - since.at, MARK_EVERY_S), 1),
            ttft_p50_s=_quantile(times, 0.5),
            ttft_p95_s=_quantile(times, 0.95),
        )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value that this share of all lies at or below; None of nothing."""
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 4)
