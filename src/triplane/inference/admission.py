"""Admission: a route's real slots, and a bounded, fair queue in front of them.

A request gets a slot at once, or waits its fair turn, or is told at once that it won't be served in time and
when to ask again. Waiting is predicted from how long slots were held lately.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import msgspec

from triplane.domain.completion import Flow
from triplane.domain.errors import Overloaded
from triplane.inference.fair_queue import FairQueue

LEAST_RETRY_AFTER_S = 1.0
RECENT = 0.1
"""The weight of the newest measurement in the mean of the times that slots are held."""


class QueueLimits(msgspec.Struct, frozen=True, kw_only=True):
    """At most `queue` requests wait, none for longer than `max_wait_s`."""

    queue: int
    max_wait_s: float


class Slot:
    """Permission to use the route's engines. `release` it in every case; twice is harmless."""

    def __init__(self, admission: "Admission", flow: Flow, expected_tokens: float, waited_s: float) -> None:
        self.waited_s = waited_s
        self._admission: Admission | None = admission
        self._flow = flow
        self._expected = expected_tokens
        self._since = admission.now()

    def release(self, tokens: float | None = None) -> None:
        """The engine is free again; `tokens` is what it computed, if it got that far."""
        admission, self._admission = self._admission, None
        if admission is not None:
            held_s = None if tokens is None else admission.now() - self._since
            admission.released(self._flow, (tokens or 0.0) - self._expected, held_s)


class _Waiter:
    """Someone in the queue. `admitted` ends when it has a slot, or with the reason why it gets none."""

    def __init__(self, flow: Flow, expected_tokens: float) -> None:
        self.flow = flow
        self.expected_tokens = expected_tokens
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def has_slot(self) -> bool:
        done = self.admitted
        return done.done() and not done.cancelled() and done.exception() is None


class Admission:
    """`slots` None admits everybody. Belongs to one event loop. `now` in seconds."""

    def __init__(
        self,
        slots: int | None,
        limits: QueueLimits,
        weights: Mapping[str, float],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        self.held = 0
        self._slots = slots
        self._limits = limits
        self._queue: FairQueue[_Waiter] = FairQueue(weights)
        self._mean_held_s = 0.0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def slots(self) -> int | None:
        return self._slots

    def resize(self, slots: int | None) -> None:
        """Replicas went or came back."""
        self._slots = slots
        self._admit()

    def predicted_wait_s(self, flow: Flow) -> float:
        """How long a request of this flow would wait for a slot, if it came now."""
        if self._is_free():
            return 0.0
        return self._wait_behind(self._queue.ahead_of(flow.plan, _user(flow)))

    async def enter(self, flow: Flow, expected_tokens: float) -> Slot:
        """A slot, once it is this flow's turn. Raises Overloaded: the queue is full, or the wait too long.

        Who is cancelled while it waits leaves the queue.
        """
        if self._is_free():
            self._hold(flow, expected_tokens)
            return Slot(self, flow, expected_tokens, 0.0)
        self._require_room(flow)
        came_at = self.now()
        waiter = _Waiter(flow, expected_tokens)
        self._queue.push(flow.plan, _user(flow), waiter)
        try:
            async with asyncio.timeout(self._limits.max_wait_s):
                await waiter.admitted
        except BaseException as error:
            if waiter.has_slot:
                self.released(flow, -expected_tokens, None)
            self._queue.remove(flow.plan, _user(flow), waiter)
            if isinstance(error, TimeoutError):
                raise self._overloaded(flow) from error
            raise
        return Slot(self, flow, expected_tokens, self.now() - came_at)

    def released(self, flow: Flow, correction: float, held_s: float | None) -> None:
        """A slot came back. `correction`: tokens that were computed beyond those expected."""
        if held_s is not None:
            self._mean_held_s += (held_s - self._mean_held_s) * (RECENT if self._mean_held_s else 1.0)
        self._queue.charge(flow.plan, _user(flow), correction)
        self.held -= 1
        self._admit()

    def _is_free(self) -> bool:
        return self._slots is None or (self.held < self._slots and not len(self._queue))

    def _hold(self, flow: Flow, expected_tokens: float) -> None:
        self.held += 1
        self._queue.charge(flow.plan, _user(flow), expected_tokens)

    def _admit(self) -> None:
        while (self._slots is None or self.held < self._slots) and (next_one := self._queue.pop()):
            waiter = next_one[2]
            if not waiter.admitted.done():
                self._hold(waiter.flow, waiter.expected_tokens)
                waiter.admitted.set_result(None)

    def _require_room(self, flow: Flow) -> None:
        if self.predicted_wait_s(flow) > self._limits.max_wait_s:
            raise self._overloaded(flow)
        if len(self._queue) < self._limits.queue:
            return
        pushed_out = self._queue.push_out(flow.plan, _user(flow))
        if pushed_out is None:
            raise self._overloaded(flow)
        if not pushed_out.admitted.done():
            pushed_out.admitted.set_exception(self._overloaded(pushed_out.flow))

    def _overloaded(self, flow: Flow) -> Overloaded:
        """Ask again when the wait will be one that is allowed: no sooner than a slot comes free."""
        over_s = self.predicted_wait_s(flow) - self._limits.max_wait_s
        again_s = max(LEAST_RETRY_AFTER_S, over_s, self._wait_behind(0))
        return Overloaded("All engines are busy. Try again a little later.", retry_after_s=again_s)

    def _wait_behind(self, ahead: int) -> float:
        return (ahead + 1) * self._mean_held_s / (self._slots or 1)


def _user(flow: Flow) -> str:
    return f"{flow.tenant}/{flow.user}"
