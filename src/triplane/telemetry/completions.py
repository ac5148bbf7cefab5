"""The metrics of engine calls, as the gateway tells of them."""

from triplane.domain.events import FinishReason
from triplane.domain.money import EngineCall
from triplane.telemetry.metrics import EngineMetrics, Metrics, Outcome


class CompletionMetrics:
    """What the gateway is given as its observer."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def begin(self, *, model: str, route: str, replica: str, plan: str) -> "CallMetrics":
        """A call goes to an engine."""
        return CallMetrics(self._metrics.engine(model, replica))

    def admitted(self, route: str, plan: str, waited_s: float) -> None:
        """A request got a slot of this route."""

    def shed(self, route: str, plan: str) -> None:
        """A request was refused at this route's queue."""

    def retried(self, model: str, route: str, reason: str) -> None:
        """A call failed with this code, and another one follows."""

    def degraded(self, model: str, step: str) -> None:
        """A request was served with less than it asked for."""


class CallMetrics:
    """Counts one call."""

    def __init__(self, engine: EngineMetrics) -> None:
        self._engine = engine
        self._latencies = engine.itl
        self._had_token = False
        engine.completion_started()

    def first_token(self, ttft_s: float) -> None:
        self._had_token = True
        self._engine.first_token(ttft_s)

    def inter_token(self, gap_s: float) -> None:
        self._latencies.observe(gap_s)

    def ended(self, call: EngineCall, reason: FinishReason | None, error_code: str | None) -> None:
        """With neither a reason nor an error code the caller has closed it."""
        outcome: Outcome = "failed" if error_code else "complete" if reason else "cancelled"
        self._engine.completion_ended(outcome, error_code or "", call.usage, had_token=self._had_token)
