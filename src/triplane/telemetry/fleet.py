"""The fleet as gauges: who waits, what each replica says of its load, which breakers are open.

Every process looks for itself. Its own queue and calls are summed over the processes; an engine tells all of
them the same, so the newest word counts; of a breaker the worst state does.
"""

import asyncio
import math
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Gauge

from triplane.domain.fleet import BreakerState, ReplicaView, RouteView

LOOK_EVERY_S = 1.0

_STATES: dict[BreakerState, int] = {"closed": 0, "half_open": 1, "open": 2}

_UNKNOWN = math.nan
"""A gauge can't be taken away from under several processes; this is what it says of what isn't known."""


class FleetMetrics:
    """Labels are routes, plans and replicas of the catalogue."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by_replica = ("route", "replica")
        self._waiting = Gauge(
            "triplane_queue_depth",
            "Requests that wait for a slot of a route.",
            ("route", "plan"),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._in_flight = Gauge(
            "triplane_replica_in_flight",
            "Our calls on a replica.",
            by_replica,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._breaker = Gauge(
            "triplane_replica_breaker",
            "A replica's circuit breaker: 0 closed, 1 half open, 2 open.",
            by_replica,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._running, self._queued, self._kv_usage = (
            Gauge(
                f"triplane_replica_{name}",
                documentation,
                by_replica,
                registry=registry,
                multiprocess_mode="livemostrecent",
            )
            for name, documentation in (
                ("running", "Requests that an engine runs, by its own word."),
                ("waiting", "Requests in an engine's own queue, by its own word."),
                ("kv_cache_usage", "The share of an engine's KV cache in use, 0 to 1, by its own word."),
            )
        )
        self._queues: set[tuple[str, str]] = set()
        self._replicas: set[tuple[str, str]] = set()
        self._loads: set[tuple[Gauge, str, str]] = set()

    def show(self, routes: Sequence[RouteView]) -> None:
        """These are the routes now; what was there before and isn't any more is nought, or unknown."""
        queues = {(each.name, plan): n for each in routes for plan, n in each.waiting_by_plan.items()}
        for name in self._queues | queues.keys():
            self._waiting.labels(*name).set(queues.get(name, 0))
        replicas = {(route.name, each.name): each for route in routes for each in route.replicas}
        for name in self._replicas | replicas.keys():
            self._show_replica(name, replicas.get(name))
        self._queues |= queues.keys()
        self._replicas |= replicas.keys()

    async def follow(self, fleet: Callable[[], Sequence[RouteView]]) -> None:
        """Show the fleet once a second, for as long as the process lives."""
        while True:
            self.show(fleet())
            await asyncio.sleep(LOOK_EVERY_S)

    def _show_replica(self, name: tuple[str, str], replica: ReplicaView | None) -> None:
        self._in_flight.labels(*name).set(replica.in_flight if replica else 0)
        self._breaker.labels(*name).set(_STATES[replica.state] if replica else 0)
        self._tell(self._running, name, replica.running if replica else None)
        self._tell(self._queued, name, replica.waiting if replica else None)
        self._tell(self._kv_usage, name, replica.kv_usage if replica else None)

    def _tell(self, gauge: Gauge, name: tuple[str, str], value: float | None) -> None:
        """What an engine says; nothing of one that has never said it."""
        if value is None and (gauge, *name) not in self._loads:
            return
        self._loads.add((gauge, *name))
        gauge.labels(*name).set(_UNKNOWN if value is None else value)
