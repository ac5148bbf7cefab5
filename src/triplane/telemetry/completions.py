"""The metrics of engine calls, as the gateway tells of them."""

from triplane.domain.events import FinishReason
from triplane.domain.money import EngineCall
from triplane.telemetry.gateway_metrics import Outcome, RouteMetrics
from triplane.telemetry.metrics import Metrics


class CompletionMetrics:
    """What the gateway is given as its observer."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics.gateway

    def begin(self, *, model: str, route: str, replica: str, plan: str) -> "CallMetrics":
        """A call goes to an engine."""
        return CallMetrics(self._metrics.route(model, route, plan))

    def admitted(self, route: str, plan: str, waited_s: float) -> None:
        """A request got a slot of this route."""
        self._metrics.wait(route, plan).observe(waited_s)

    def shed(self, route: str, plan: str) -> None:
        """A request was refused at this route's queue."""
        self._metrics.shed.labels(route, plan).inc()

    def retried(self, model: str, route: str, reason: str) -> None:
        """A call failed with this code, and another one follows on this route."""
        self._metrics.retries.labels(model, route, reason).inc()

    def degraded(self, model: str, step: str) -> None:
        """A request was served with less than it asked for."""
        self._metrics.degradations.labels(model, step).inc()

    def embeddings_looked_up(self, model: str, *, hits: int, misses: int) -> None:
        """So many inputs were in the embedding cache, and so many weren't."""
        self._metrics.embedding_cache.labels(model, "hit").inc(hits)
        self._metrics.embedding_cache.labels(model, "miss").inc(misses)


class CallMetrics:
    """Counts one call."""

    def __init__(self, route: RouteMetrics) -> None:
        self._route = route
        self._latencies = route.itl
        self._had_token = False
        route.call_began()

    def first_token(self, ttft_s: float) -> None:
        self._had_token = True
        self._route.first_token(ttft_s)

    def inter_token(self, gap_s: float) -> None:
        self._latencies.observe(gap_s)

    def ended(self, call: EngineCall, reason: FinishReason | None, error_code: str | None) -> None:
        """With neither a reason nor an error code the caller has closed it."""
        outcome: Outcome = "failed" if error_code else "complete" if reason else "cancelled"
        self._route.call_ended(call, outcome, error_code or "", had_token=self._had_token)
