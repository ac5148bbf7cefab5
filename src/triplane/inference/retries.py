"""Whether, and when, a failed call is tried again."""

import random

BUDGET_SHARE = 0.2
BUDGET_BURST = 10.0
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 1.0

_luck = random.SystemRandom()


class RetryBudget:
    """Retries may be a fifth of the requests, and ten more: a brown-out can't become a storm.

    The form is that of Finagle's and gRPC's retry throttling: each request pays in, each retry takes out.
    """

    def __init__(self, share: float = BUDGET_SHARE, burst: float = BUDGET_BURST) -> None:
        self._share = share
        self._burst = burst
        self._left = burst

    def request_came(self) -> None:
        self._left = min(self._burst, self._left + self._share)

    def take(self) -> bool:
        """Whether one more retry is affordable; it is paid for then."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


def backoff_s(retry: int) -> float:
    """The pause before the retry of this number, from 1: exponential with full jitter (AWS Architecture
    Blog, "Exponential Backoff and Jitter")."""
    return _luck.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (retry - 1)))
