"""The engines as they are now, for whoever looks after them."""

from collections.abc import Iterable
from typing import Literal

import msgspec

BreakerState = Literal["closed", "open", "half_open"]
"""Of a replica's circuit breaker: it is asked, it is left alone, or one call tries whether it is back."""


class ReplicaView(msgspec.Struct, frozen=True, kw_only=True):
    """One replica. `in_flight` are this process's calls. `running`, `waiting` and `kv_usage` (the share of
    its KV cache in use, 0 to 1) are the engine's own word on all its callers, None if it doesn't say."""

    name: str
    state: BreakerState
    in_flight: int
    busy_for_s: float
    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """What a route did in the last minute. `calls` that ended, `errors` among them, the times to the first
    token of those that gave one."""

    calls: int = 0
    errors: int = 0
    tokens_per_s: float = 0.0
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None


class RouteView(msgspec.Struct, frozen=True, kw_only=True):
    """One route: its slots (None: as many as come), those that are held, and who waits for one, by plan."""

    name: str
    engine: str
    slots: int | None
    held: int
    waiting: int
    waiting_by_plan: dict[str, int] = {}
    recent: Recent = Recent()
    replicas: list[ReplicaView]


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet as one process sees it, `at` in Unix seconds. Slots, queues, calls and the last minute are
    this process's share, `process` names it; what engines say of themselves is of all processes."""

    object: Literal["fleet"] = "fleet"
    process: str
    at: float
    routes: list[RouteView]


class FleetSample(msgspec.Struct, frozen=True, kw_only=True):
    """What one process says of a route at one moment: `recent` is its last minute."""

    route: str
    running: int
    waiting: int
    recent: Recent


class FleetPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A route at one moment, all processes together. `at` in Unix seconds; rates and times of the minute
    before. The median is the processes' by their calls, the 95th percentile the worst of theirs."""

    at: int
    running: int
    waiting: int
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    errors_per_min: int
    tokens_per_s: float


def sample_of(route: RouteView) -> FleetSample:
    running = sum(replica.in_flight for replica in route.replicas)
    return FleetSample(route=route.name, running=running, waiting=route.waiting, recent=route.recent)


def merged_samples(samples: Iterable[FleetSample], at: int) -> dict[str, FleetPoint]:
    """What the processes say of one moment, by route."""
    by_route: dict[str, list[FleetSample]] = {}
    for sample in samples:
        by_route.setdefault(sample.route, []).append(sample)
    return {route: _merged(each, at) for route, each in by_route.items()}


def _merged(samples: list[FleetSample], at: int) -> FleetPoint:
    recents = [sample.recent for sample in samples]
    medians = [(each.ttft_p50_s, each.calls or 1) for each in recents if each.ttft_p50_s is not None]
    worst = [each.ttft_p95_s for each in recents if each.ttft_p95_s is not None]
    calls = sum(weight for _, weight in medians)
    return FleetPoint(
        at=at,
        running=sum(sample.running for sample in samples),
        waiting=sum(sample.waiting for sample in samples),
        ttft_p50_s=round(sum(time * weight for time, weight in medians) / calls, 4) if medians else None,
        ttft_p95_s=max(worst, default=None),
        errors_per_min=sum(each.errors for each in recents),
        tokens_per_s=round(sum(each.tokens_per_s for each in recents), 1),
    )
