"""One engine call as the gateway tells of it: its metrics and its span, from being sent to its end."""

from opentelemetry.trace import Span, SpanKind

from triplane.domain.events import FinishReason, Usage
from triplane.telemetry.metrics import Metrics, Outcome
from triplane.telemetry.traces import Tracing, fail, headers_of


class CompletionTelemetry:
    """What the gateway is given as its observer."""

    def __init__(self, metrics: Metrics, tracing: Tracing) -> None:
        self._metrics = metrics
        self._tracing = tracing

    def begin(self, model: str, engine: str) -> "CallTelemetry":
        """A call goes to an engine; the span's name and attributes are OpenTelemetry's for generative AI."""
        span = None
        if self._tracing.is_on:
            attributes = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": engine,
                "gen_ai.request.model": model,
            }
            span = self._tracing.start_span(f"chat {model}", SpanKind.CLIENT, attributes)
        return CallTelemetry(self._metrics, model, engine, span)


class CallTelemetry:
    """Counts one call. `inter_token` runs for every token, so it is the tally's own method."""

    def __init__(self, metrics: Metrics, model: str, engine: str, span: Span | None) -> None:
        self._metrics = metrics
        self._model = model
        self._engine = engine
        self._span = span
        self.inter_token = metrics.inter_token(model, engine).observe
        metrics.completion_started(model, engine)

    @property
    def headers(self) -> dict[str, str]:
        """What makes the engine's span a child of this call's; nothing where nobody traces."""
        return headers_of(self._span) if self._span else {}

    def first_token(self, ttft_s: float) -> None:
        self._metrics.first_token(self._model, self._engine, ttft_s)
        if self._span:
            self._span.add_event("first token")

    def ended(self, usage: Usage, reason: FinishReason | None, error_code: str | None) -> None:
        outcome: Outcome = "failed" if error_code else "complete" if reason else "cancelled"
        self._metrics.completion_ended(self._model, self._engine, outcome, error_code or "", usage)
        if self._span:
            self._end(self._span, usage, reason, error_code)

    def _end(self, span: Span, usage: Usage, reason: FinishReason | None, error_code: str | None) -> None:
        span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
        span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens)
        if reason:
            span.set_attribute("gen_ai.response.finish_reasons", [reason])
        if error_code:
            fail(span, error_code)
        span.end()
