"""What the gateway does: latencies, retries, tokens, cost. Labels are the catalogue's names, and codes.

Metrics are bound once for each model, route and plan, because finding them costs more than counting.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from triplane.domain.money import NANO_DOLLARS, EngineCall
from triplane.telemetry.histograms import Tally, batch_histogram

TTFT_BUCKETS_S = (
    0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60,
)  # fmt: skip
ITL_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 5,
)  # fmt: skip
WAIT_BUCKETS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)

Outcome = Literal["complete", "cancelled", "failed"]

_KINDS = ("prompt", "cached", "completion")


class RouteMetrics:
    """The metrics of one model on one route, for one plan."""

    def __init__(
        self,
        *,
        in_flight: Gauge,
        unanswered: Gauge,
        ttft: Histogram,
        itl: Tally,
        tokens: tuple[Counter, ...],
        cost: Counter,
        calls: Callable[[str, str], Counter],
    ) -> None:
        self.itl = itl
        self._in_flight = in_flight
        self._unanswered = unanswered
        self._ttft = ttft
        self._prompt, self._cached, self._completion = tokens
        self._cost = cost
        self._calls = calls
        self._bound: dict[tuple[Outcome, str], Counter] = {}

    def call_began(self) -> None:
        self._in_flight.inc()
        self._unanswered.inc()

    def first_token(self, seconds: float) -> None:
        self._unanswered.dec()
        self._ttft.observe(seconds)

    def call_ended(self, call: EngineCall, outcome: Outcome, code: str, *, had_token: bool) -> None:
        """Once for each `call_began`; `code` is the error's, empty if there was none."""
        self._in_flight.dec()
        if not had_token:
            self._unanswered.dec()
        ended = self._bound.get((outcome, code))
        if ended is None:
            ended = self._bound[outcome, code] = self._calls(outcome, code)
        ended.inc()
        self.itl.write()
        usage = call.usage
        self._prompt.inc(usage.prompt_tokens)
        self._completion.inc(usage.completion_tokens)
        if usage.cached_tokens:
            self._cached.inc(usage.cached_tokens)
        if call.cost:
            self._cost.inc(call.cost / NANO_DOLLARS)


class GatewayMetrics:
    """All of them, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by_route, by_payer = ("model", "route"), ("model", "route", "plan")
        self._ttft = Histogram(
            "triplane_time_to_first_token_seconds",
            "From asking the gateway to a call's first token, waiting and failed calls before it included.",
            by_route,
            buckets=TTFT_BUCKETS_S,
            registry=registry,
        )
        self._itl = batch_histogram(
            "triplane_inter_token_latency_seconds",
            "From one event of an engine's stream to the next.",
            by_route,
            ITL_BUCKETS_S,
            registry,
        )
        self._in_flight = _summed(
            "triplane_engine_calls_in_flight", "Engine calls running.", registry, by_route
        )
        self._unanswered = _summed(
            "triplane_engine_queue_depth",
            "Calls that wait for their first token: in an engine's queue, or in its prefill.",
            registry,
            by_route,
        )
        self._calls = Counter(
            "triplane_engine_calls", "Engine calls ended.", (*by_route, "outcome", "code"), registry=registry
        )
        self._tokens = Counter(
            "triplane_tokens",
            "Tokens by kind; cached ones are prompt tokens too.",
            (*by_payer, "kind"),
            registry=registry,
        )
        self._cost = Counter(
            "triplane_cost_dollars", "What engines cost, by the routes' prices.", by_payer, registry=registry
        )
        self._wait = Histogram(
            "triplane_queue_wait_seconds",
            "Waiting for a slot of a route.",
            ("route", "plan"),
            buckets=WAIT_BUCKETS_S,
            registry=registry,
        )
        self.shed = Counter(
            "triplane_requests_shed", "Refused at a route's queue.", ("route", "plan"), registry=registry
        )
        self.retries = Counter(
            "triplane_retries",
            "Calls made again, or on the next route, by why the one before failed.",
            ("model", "route", "reason"),
            registry=registry,
        )
        self.degradations = Counter(
            "triplane_degradations",
            "Requests served with less under load, by what was left out.",
            ("model", "step"),
            registry=registry,
        )
        self.embedding_cache = Counter(
            "triplane_embedding_cache_inputs",
            "Inputs looked up in the embedding cache.",
            ("model", "result"),
            registry=registry,
        )
        self._bound: dict[tuple[str, str, str], RouteMetrics] = {}
        self._bound_waits: dict[tuple[str, str], Histogram] = {}

    def route(self, model: str, route: str, plan: str) -> RouteMetrics:
        """Ask once a call, not once a token."""
        bound = self._bound.get((model, route, plan))
        if bound is None:
            bound = self._bound[model, route, plan] = RouteMetrics(
                in_flight=self._in_flight.labels(model, route),
                unanswered=self._unanswered.labels(model, route),
                ttft=self._ttft.labels(model, route),
                itl=Tally(self._itl.labels(model, route), ITL_BUCKETS_S),
                tokens=tuple(self._tokens.labels(model, route, plan, kind) for kind in _KINDS),
                cost=self._cost.labels(model, route, plan),
                calls=partial(self._calls.labels, model, route),
            )
        return bound

    def wait(self, route: str, plan: str) -> Histogram:
        """Seconds that a request waited for a slot of the route."""
        bound = self._bound_waits.get((route, plan))
        if bound is None:
            bound = self._bound_waits[route, plan] = self._wait.labels(route, plan)
        return bound

    def write(self) -> None:
        """Hand over what is counted and not written yet."""
        for route in list(self._bound.values()):
            route.itl.write()


def _summed(name: str, documentation: str, registry: CollectorRegistry, labels: tuple[str, ...]) -> Gauge:
    """A gauge that is summed over the processes that live."""
    return Gauge(name, documentation, labels, registry=registry, multiprocess_mode="livesum")
