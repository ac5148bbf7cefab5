"""The metrics of engine calls, as the gateway tells of them."""

from triplane.domain.events import FinishReason, Usage
from triplane.telemetry.metrics import EngineMetrics, Metrics, Outcome


class CompletionMetrics:
    """What the gateway is given as its observer."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def begin(self, model: str, engine: str) -> "CallMetrics":
        """A call goes to an engine."""
        return CallMetrics(self._metrics.engine(model, engine))


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

    def ended(self, usage: Usage, reason: FinishReason | None, error_code: str | None) -> None:
        """With neither a reason nor an error code the caller has closed it."""
        outcome: Outcome = "failed" if error_code else "complete" if reason else "cancelled"
        self._engine.completion_ended(outcome, error_code or "", usage, had_token=self._had_token)
