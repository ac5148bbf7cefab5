"""What this process counts and times, for Prometheus. Labels are models, routes and codes: never a person's.

With several API workers each has a registry of its own; where PROMETHEUS_MULTIPROC_DIR is set before this
module is first imported, they share their numbers through files there, and any of them tells of all.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from triplane.domain.events import TurnStatus
from triplane.domain.limits import LimitKind, Scope
from triplane.telemetry.fleet import FleetMetrics
from triplane.telemetry.gateway_metrics import GatewayMetrics
from triplane.telemetry.shared_metrics import DIRECTORY_VARIABLE, forget_ended_processes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

HTTP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """All metrics of this process, in a registry of their own. Methods are cheap and never fail."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        shared = environment.get(DIRECTORY_VARIABLE)
        self._shared_directory = Path(shared) if shared else None
        self.registry = registry = CollectorRegistry()
        self.gateway = GatewayMetrics(registry)
        self.fleet = FleetMetrics(registry)
        self._streams = Gauge(
            "triplane_streams_open",
            "Event streams open to clients.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._errors = Counter("triplane_http_errors", "Errors answered.", ("code",), registry=registry)
        self._http = Histogram(
            "triplane_http_request_duration_seconds",
            "From a request's arrival to the end of its response.",
            ("route", "method", "status"),
            buckets=HTTP_BUCKETS_S,
            registry=registry,
        )
        self._turns = Counter("triplane_turns", "Turns by how they ended.", ("status",), registry=registry)
        self._windows = Counter(
            "triplane_hot_window_reads", "Hot window reads.", ("result",), registry=registry
        )
        self._limited = Counter(
            "triplane_requests_limited",
            "Requests refused, by whose limit and of what.",
            ("scope", "kind"),
            registry=registry,
        )
        self._unshared = Counter(
            "triplane_limits_unshared",
            "Requests whose limits one process looked up alone, because Redis was away.",
            registry=registry,
        )
        self._bound_http: dict[tuple[str, str, int], Histogram] = {}

    def http_request(self, route: str, method: str, status: int, seconds: float) -> None:
        bound = self._bound_http.get((route, method, status))
        if bound is None:
            bound = self._bound_http[route, method, status] = self._http.labels(route, method, status)
        bound.observe(seconds)

    def http_error(self, code: str) -> None:
        """An error of our own tree went to a client, as a status or inside a stream."""
        self._errors.labels(code).inc()

    def turn_ended(self, status: TurnStatus) -> None:
        self._turns.labels(status).inc()

    def hot_window_read(self, *, hit: bool) -> None:
        self._windows.labels("hit" if hit else "miss").inc()

    def request_limited(self, scope: Scope, kind: LimitKind) -> None:
        self._limited.labels(scope, kind).inc()

    def limits_unshared(self, claims: int) -> None:
        self._unshared.inc(claims)

    def stream_opened(self) -> None:
        self._streams.inc()

    def stream_closed(self) -> None:
        self._streams.dec()

    def exposition(self) -> bytes:
        """The numbers in Prometheus's text format. Reads files where workers share: call it in a thread."""
        self.gateway.write()
        if self._shared_directory is None:
            return generate_latest(self.registry)
        forget_ended_processes(self._shared_directory)
        gathered = CollectorRegistry()
        MultiProcessCollector(gathered, str(self._shared_directory))  # type: ignore[no-untyped-call]
        return generate_latest(gathered)
