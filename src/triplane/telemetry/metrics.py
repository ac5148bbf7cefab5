"""What this process counts and times, for Prometheus. Labels are models, routes and codes: never a person's.

With several API workers each has a registry of its own; where PROMETHEUS_MULTIPROC_DIR is set before this
module is first imported, they share their numbers through files there, and any of them tells of all.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from triplane.domain.events import TurnStatus, Usage
from triplane.domain.limits import LimitKind, Scope
from triplane.telemetry.histograms import Tally, batch_histogram
from triplane.telemetry.shared_metrics import DIRECTORY_VARIABLE, forget_ended_processes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

TTFT_BUCKETS_S = (
    0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60,
)  # fmt: skip
ITL_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 5,
)  # fmt: skip
HTTP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

Outcome = Literal["complete", "cancelled", "failed"]


class EngineMetrics:
    """The metrics of one model on one engine, found once because finding them costs more than counting."""

    def __init__(
        self,
        *,
        in_flight: Gauge,
        queue: Gauge,
        ttft: Histogram,
        itl: Tally,
        tokens: tuple[Counter, ...],
        completions: Callable[[str, str], Counter],
    ) -> None:
        self.itl = itl
        self._in_flight = in_flight
        self._queue = queue
        self._ttft = ttft
        self._prompt, self._cached, self._completion = tokens
        self._completions = completions
        self._bound: dict[tuple[Outcome, str], Counter] = {}

    def completion_started(self) -> None:
        self._in_flight.inc()
        self._queue.inc()

    def first_token(self, seconds: float) -> None:
        self._queue.dec()
        self._ttft.observe(seconds)

    def completion_ended(self, outcome: Outcome, code: str, usage: Usage, *, had_token: bool) -> None:
        """Call once for each `completion_started`; `code` is the error's, empty if there was none."""
        self._in_flight.dec()
        if not had_token:
            self._queue.dec()
        ended = self._bound.get((outcome, code))
        if ended is None:
            ended = self._bound[outcome, code] = self._completions(outcome, code)
        ended.inc()
        self.itl.write()
        self._prompt.inc(usage.prompt_tokens)
        self._completion.inc(usage.completion_tokens)
        if usage.cached_tokens:
            self._cached.inc(usage.cached_tokens)


class Metrics:
    """All metrics of this process, in a registry of their own. Methods are cheap and never fail."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        shared = environment.get(DIRECTORY_VARIABLE)
        self._shared_directory = Path(shared) if shared else None
        self.registry = registry = CollectorRegistry()
        by_engine = ("model", "engine")
        self._ttft = Histogram(
            "triplane_time_to_first_token_seconds",
            "From asking the engine to its first token.",
            by_engine,
            buckets=TTFT_BUCKETS_S,
            registry=registry,
        )
        self._itl = batch_histogram(
            "triplane_inter_token_latency_seconds",
            "From one event of an engine's stream to the next.",
            by_engine,
            ITL_BUCKETS_S,
            registry,
        )
        self._in_flight = _gauge(
            "triplane_completions_in_flight", "Completions running.", registry, by_engine
        )
        self._queue = _gauge(
            "triplane_engine_queue_depth",
            "Requests that wait for their first token: in an engine's queue, or in its prefill.",
            registry,
            by_engine,
        )
        self._streams = _gauge("triplane_streams_open", "Event streams open to clients.", registry)
        self._tokens = Counter(
            "triplane_tokens",
            "Tokens by kind; cached ones are prompt tokens too.",
            ("model", "kind"),
            registry=registry,
        )
        self._completions = Counter(
            "triplane_completions", "Completions ended.", (*by_engine, "outcome", "code"), registry=registry
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
        self._engines: dict[tuple[str, str], EngineMetrics] = {}

    def engine(self, model: str, engine: str) -> "EngineMetrics":
        """The metrics of one model on one engine: ask once a call, not once a token."""
        bound = self._engines.get((model, engine))
        if bound is None:
            bound = self._engines[model, engine] = EngineMetrics(
                in_flight=self._in_flight.labels(model, engine),
                queue=self._queue.labels(model, engine),
                ttft=self._ttft.labels(model, engine),
                itl=Tally(self._itl.labels(model, engine), ITL_BUCKETS_S),
                tokens=tuple(self._tokens.labels(model, kind) for kind in ("prompt", "cached", "completion")),
                completions=partial(self._completions.labels, model, engine),
            )
        return bound

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
        for engine in list(self._engines.values()):
            engine.itl.write()
        if self._shared_directory is None:
            return generate_latest(self.registry)
        forget_ended_processes(self._shared_directory)
        gathered = CollectorRegistry()
        MultiProcessCollector(gathered, str(self._shared_directory))  # type: ignore[no-untyped-call]
        return generate_latest(gathered)


def _gauge(name: str, documentation: str, registry: CollectorRegistry, labels: tuple[str, ...] = ()) -> Gauge:
    """A gauge that is summed over the workers that live."""
    return Gauge(name, documentation, labels, registry=registry, multiprocess_mode="livesum")
