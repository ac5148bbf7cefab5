"""The engines as they are now, for whoever looks after them."""

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
