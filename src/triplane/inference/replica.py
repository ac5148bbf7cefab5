"""One replica of a route: its engine, what runs on it, and whether it may be asked."""

import time
from collections.abc import Callable

from triplane.domain.errors import TriplaneError
from triplane.inference.breaker import Breaker, Permit
from triplane.inference.engines.engine import Engine, EngineLoad

KV_FULL = 0.95
"""A KV cache fuller than that makes its engine evict or preempt: it counts as an engine with no slot left."""


class Replica:
    """`in_flight` are the calls of this process; the engine's own word, when it has one, tells of all."""

    def __init__(self, engine: Engine, slots: int | None, now: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.slots = slots
        self.breaker = Breaker(now)
        self.in_flight = 0
        self.load: EngineLoad | None = None
        self._now = now
        self._busy_until = 0.0

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def is_available(self) -> bool:
        return self.breaker.allows() and self._now() >= self._busy_until

    @property
    def busy_for_s(self) -> float:
        """How long it asked to be left alone, from now."""
        return max(0.0, self._busy_until - self._now())

    @property
    def has_slot(self) -> bool:
        return self.slots is None or self.in_flight < self.slots

    @property
    def usable_slots(self) -> int:
        """Slots that run something or may; one is for the trial of a replica that comes back."""
        if not self.is_available:
            return self.in_flight
        most = self.slots or 0
        return most if self.breaker.state == "closed" else min(most, self.in_flight + 1)

    @property
    def pressure(self) -> float:
        """Requests on it, by our count or the engine's; a full KV cache counts as all its slots."""
        load = self.load
        if load is None:
            return float(self.in_flight)
        requests = max(self.in_flight, load.running + load.waiting)
        is_full = load.kv_usage is not None and load.kv_usage > KV_FULL
        return requests + (self.slots or requests + 1 if is_full else 0)

    def began(self) -> Permit:
        self.in_flight += 1
        return self.breaker.begin()

    def ended(self) -> None:
        self.in_flight -= 1

    def busy(self, for_s: float) -> None:
        """It asked to be left alone for a while; that is no failure."""
        self._busy_until = max(self._busy_until, self._now() + for_s)

    async def look(self) -> None:
        """Read its load; of one that has failed, see whether it is back. Raises nothing."""
        try:
            if self.breaker.state != "closed":
                await self.engine.check()
                self.breaker.recovered()
            self.load = await self.engine.load()
        except TriplaneError:
            self.load = None
