"""The fleet: every route of the catalogue with its replicas, as it is now. A new catalogue changes it."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec

from triplane.domain.errors import EngineUnavailable, Overloaded, TriplaneError
from triplane.inference.admission import Admission, QueueLimits
from triplane.inference.breaker import BreakerState
from triplane.inference.catalogue import Catalogue, Route
from triplane.inference.engines.engine import Engine, EngineLoad
from triplane.inference.replica import Replica
from triplane.inference.retries import RetryBudget

LOOK_EVERY_S = 1.0
LOOK_S = 2.0

EngineBuilder = Callable[[str, Route, str], Engine]
"""Route name, route, address → the engine there, not connected yet."""


class ReplicaView(msgspec.Struct, frozen=True, kw_only=True):
    """One replica as an operator sees it. `in_flight` is ours, `load` the engine's own word."""

    name: str
    state: BreakerState
    in_flight: int
    busy_for_s: float
    load: EngineLoad | None


class RouteView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    engine: str
    slots: int | None
    held: int
    waiting: int
    replicas: list[ReplicaView]


class Pool:
    """A route at work. `admission` guards the slots of all its replicas together.

    `users` are the completions that may still call its engines, those that run included.
    """

    def __init__(
        self,
        name: str,
        route: Route,
        weights: Mapping[str, float],
        build: EngineBuilder,
        now: Callable[[], float],
    ) -> None:
        self.name = name
        self.route = route
        self.users = 0
        self.budget = RetryBudget()
        self.replicas = [Replica(build(name, route, url), route.slots, now) for url in route.urls]
        self.prefill = [Replica(build(name, route, url), None, now) for url in route.prefill_urls]
        limits = QueueLimits(queue=route.queue, max_wait_s=route.max_wait_s)
        self.admission = Admission(self._slots, limits, weights, now)

    @property
    def all_replicas(self) -> Iterator[Replica]:
        yield from self.replicas
        yield from self.prefill

    @property
    def has_available(self) -> bool:
        return any(each.is_available for each in self.replicas)

    def unavailable(self) -> TriplaneError:
        """Why no replica may be asked: busy for a known time, or down for an unknown one."""
        waits = [each.busy_for_s for each in self.replicas if each.breaker.allows() and each.busy_for_s > 0]
        if waits:
            return Overloaded("The engine is busy. Try again a little later.", retry_after_s=min(waits))
        return EngineUnavailable("No engine of this model can be reached now. Try again a little later.")

    def admit(self) -> None:
        """Let in whoever waits, if replicas came back; if all went down, say so instead of waiting on."""
        if not self.has_available and isinstance(error := self.unavailable(), EngineUnavailable):
            self.admission.turn_away(error)
        self.admission.admit()

    async def close(self) -> None:
        for replica in self.all_replicas:
            await replica.engine.close()

    def view(self) -> RouteView:
        return RouteView(
            name=self.name,
            engine=self.route.engine,
            slots=self.admission.slots,
            held=self.admission.held,
            waiting=self.admission.waiting,
            replicas=[
                ReplicaView(
                    name=each.name,
                    state=each.breaker.state,
                    in_flight=each.in_flight,
                    busy_for_s=each.busy_for_s,
                    load=each.load,
                )
                for each in self.all_replicas
            ],
        )

    def _slots(self) -> int | None:
        """The slots of the replicas that may be asked; of one that is left alone, what still runs there."""
        if self.route.slots is None:
            return None
        return sum(each.usable_slots for each in self.replicas)


class Fleet:
    """Build it, and `close` it, on the event loop that serves. `build` makes the engines."""

    def __init__(
        self, catalogue: Catalogue, build: EngineBuilder, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.catalogue = catalogue
        self._build = build
        self._now = now
        self._pools: dict[str, Pool] = {}
        self._retired: list[Pool] = []
        self._take(catalogue)

    @property
    def pools(self) -> list[Pool]:
        return list(self._pools.values())

    def pool(self, name: str) -> Pool:
        return self._pools[name]

    async def reload(self, catalogue: Catalogue) -> None:
        """Serve by this catalogue from now on. A route that changed is a new one; running calls go on."""
        old = self._pools
        self._take(catalogue)
        self._retired += [pool for name, pool in old.items() if self._pools.get(name) is not pool]
        await self._close_retired()

    async def watch(self) -> None:
        """Look at every replica about once a second, for as long as the process lives."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Loads, recoveries, who waits for them, and retired routes that nobody uses any more."""
        replicas = [each for pool in self.pools for each in pool.all_replicas]
        await asyncio.gather(*(_look_at(each) for each in replicas))
        for pool in self.pools:
            pool.admit()
        await self._close_retired()

    async def check(self) -> None:
        """Whether every model can be served now, by one of its routes. Raises EngineUnavailable."""
        await asyncio.gather(*(self._check(name) for name in self.catalogue.models))

    async def close(self) -> None:
        for pool in [*self.pools, *self._retired]:
            await pool.close()

    def view(self) -> list[RouteView]:
        return [pool.view() for pool in self.pools]

    def _take(self, catalogue: Catalogue) -> None:
        """The pools of this catalogue; a route that is as it was keeps its pool."""
        weights = {name: plan.weight for name, plan in catalogue.plans.items()}
        pools = {}
        for name, route in catalogue.routes.items():
            known = self._pools.get(name)
            same = known if known and known.route == route else None
            pools[name] = same or Pool(name, route, weights, self._build, self._now)
        for pool in pools.values():
            pool.admission.reweigh(weights)
        self.catalogue, self._pools = catalogue, pools

    async def _close_retired(self) -> None:
        unused = [each for each in self._retired if not each.users]
        self._retired = [each for each in self._retired if each.users]
        for pool in unused:
            await pool.close()

    async def _check(self, model: str) -> None:
        """The first replica that is well will do."""
        names = dict.fromkeys(self.catalogue.models[model].route_names())
        last: TriplaneError | None = None
        for replica in [each for name in names for each in self._pools[name].replicas]:
            try:
                await replica.engine.check()
                return
            except TriplaneError as error:
                last = error
        raise EngineUnavailable(f"No engine of the model {model!r} is well.") from last


async def _look_at(replica: Replica) -> None:
    try:
        async with asyncio.timeout(LOOK_S):
            await replica.look()
    except TimeoutError:
        replica.load = None
