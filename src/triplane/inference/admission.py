"""Admission: a route's real slots, and a bounded, fair queue in front of them.

A request gets a slot at once, or waits its fair turn, or is told at once that it won't be served in time and
when to ask again. Waiting is predicted from how long slots were held lately. Those who are sent away are told
times one behind another, at the pace at which slots come free: a crowd that does as it is told comes back as
a line, not as another flood.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import msgspec

from triplane.domain.completion import Flow
from triplane.domain.errors import Overloaded, TriplaneError
from triplane.inference.fair_queue import FairQueue

LEAST_RETRY_AFTER_S = 1.0
LONGEST_LINE_S = 10.0
"""How far ahead those who are sent away are lined up: many never come back, and one who does shouldn't wait
for all of them."""
RECENT = 0.1
"""The weight of the newest measurement in the mean of the times that slots are held."""


class QueueLimits(msgspec.Struct, frozen=True, kw_only=True):
    """At most `queue` requests wait, none for longer than `max_wait_s`."""

    queue: int
    max_wait_s: float


class Slot:
    """Permission to use the route's engines. `release` it in every case; twice is harmless."""

    def __init__(self, admission: "Admission", flow: Flow, expected_tokens: float, waited_s: float) -> None:
        self.flow = flow
        self.expected_tokens = expected_tokens
        self.waited_s = waited_s
        self.since = admission.now()
        self._admission: Admission | None = admission

    def release(self, tokens: float | None = None) -> None:
        """The engine is free again; `tokens` is what it computed, None if it wasn't asked."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.take_back(self, tokens)


class _Waiter:
    """Someone in the queue. `admitted` ends with its slot, or with the reason why it gets none."""

    def __init__(self, flow: Flow, expected_tokens: float, came_at: float) -> None:
        self.flow = flow
        self.expected_tokens = expected_tokens
        self.came_at = came_at
        self.admitted: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()

    def refuse(self, error: TriplaneError) -> None:
        if not self.admitted.done():
            self.admitted.set_exception(error)

    def give_back(self) -> None:
        """A slot that came too late is somebody else's."""
        done = self.admitted
        if done.done() and not done.cancelled() and done.exception() is None:
            done.result().release()


class Admission:
    """`slots` tells how many there are now; None admits everybody. Belongs to one event loop.

    `now` in seconds.
    """

    def __init__(
        self,
        slots: Callable[[], int | None],
        limits: QueueLimits,
        weights: Mapping[str, float],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        self.held = 0
        self._held_since = 0.0
        self._slots = slots
        self._limits = limits
        self._queue: FairQueue[_Waiter] = FairQueue(weights)
        self._mean_held_s: float | None = None
        self._line_ends_at = 0.0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def waiting_by_plan(self) -> dict[str, int]:
        """How many wait, for each plan that is known here."""
        return self._queue.waiting_by_plan()

    @property
    def slots(self) -> int | None:
        return self._slots()

    def reweigh(self, weights: Mapping[str, float]) -> None:
        """The plans weigh this from now on."""
        self._queue.reweigh(weights)

    def predicted_wait_s(self, flow: Flow) -> float:
        """How long a request of this flow would wait for a slot, if it came now."""
        if self._has_free_slot() and not len(self._queue):
            return 0.0
        return self._wait_behind(self._queue.ahead_of(flow.plan, _user(flow)))

    async def enter(self, flow: Flow, expected_tokens: float) -> Slot:
        """A slot, once it is this flow's turn. Raises Overloaded: the queue is full, or the wait too long.

        Who is cancelled while it waits leaves the queue.
        """
        if not self._has_free_slot() or len(self._queue):
            self._require_room(flow)
        else:
            self._line_ends_at = 0.0  # there is room, whoever is still to come back
        waiter = _Waiter(flow, expected_tokens, self.now())
        self._queue.push(flow.plan, _user(flow), waiter)
        self.admit()
        if waiter.admitted.done():
            return waiter.admitted.result()
        try:
            async with asyncio.timeout(self._limits.max_wait_s):
                return await waiter.admitted
        except TimeoutError as error:
            self._leave(waiter)
            raise self._overloaded(flow) from error
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        self._queue.remove(waiter.flow.plan, _user(waiter.flow), waiter)
        waiter.give_back()

    def admit(self) -> None:
        """Let in whoever there is a slot for. Call it when slots may have come."""
        while self._has_free_slot() and (waiter := self._queue.pop()):
            if not waiter.admitted.done():
                waiter.admitted.set_result(self._hold(waiter))

    def turn_away(self, error: TriplaneError) -> None:
        """Nobody will get a slot soon: tell everyone who waits."""
        while waiter := self._queue.pop():
            waiter.refuse(error)

    def take_back(self, slot: Slot, tokens: float | None) -> None:
        """A slot was released. `tokens`: what was computed, instead of what was expected."""
        self.held -= 1
        self._held_since = self._held_since - slot.since if self.held else 0.0
        if tokens is not None:
            held_s, mean_s = self.now() - slot.since, self._mean_held_s
            self._mean_held_s = held_s if mean_s is None else mean_s + (held_s - mean_s) * RECENT
        self._queue.charge(slot.flow.plan, _user(slot.flow), (tokens or 0.0) - slot.expected_tokens)
        self.admit()

    def _has_free_slot(self) -> bool:
        slots = self._slots()
        return slots is None or self.held < slots

    def _hold(self, waiter: _Waiter) -> Slot:
        slot = Slot(self, waiter.flow, waiter.expected_tokens, self.now() - waiter.came_at)
        self.held += 1
        self._held_since += slot.since
        self._queue.charge(waiter.flow.plan, _user(waiter.flow), waiter.expected_tokens)
        return slot

    def _require_room(self, flow: Flow) -> None:
        if self.predicted_wait_s(flow) > self._limits.max_wait_s:
            raise self._overloaded(flow)
        if len(self._queue) < self._limits.queue:
            return
        pushed_out = self._queue.push_out(flow.plan, _user(flow))
        if pushed_out is None:
            raise self._overloaded(flow)
        pushed_out.refuse(self._overloaded(pushed_out.flow))

    def _overloaded(self, flow: Flow) -> Overloaded:
        """Ask again when the wait will be one that is allowed, and no sooner than it is your place in the
        line of those who were sent away: each of them takes one slot."""
        now, over_s = self.now(), self.predicted_wait_s(flow) - self._limits.max_wait_s
        place_s = max(self._line_ends_at - now, 0.0) + self._wait_behind(0)
        self._line_ends_at = now + min(place_s, LONGEST_LINE_S)
        again_s = max(LEAST_RETRY_AFTER_S, over_s, self._wait_behind(0), self._line_ends_at - now)
        return Overloaded("All engines are busy. Try again a little later.", retry_after_s=again_s)

    def _wait_behind(self, ahead: int) -> float:
        return (ahead + 1) * self._usual_held_s() / (self._slots() or 1)

    def _usual_held_s(self) -> float:
        """How long a slot is held; while none was released yet, at least as long as those were so far."""
        if self._mean_held_s is not None:
            return self._mean_held_s
        return self.now() - self._held_since / self.held if self.held else 0.0


def _user(flow: Flow) -> str:
    return f"{flow.tenant}/{flow.user}"
