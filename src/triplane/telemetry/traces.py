"""Traces over OpenTelemetry: spans with ids, codes and counts, never with text.

Without an OTLP endpoint there is no provider, no span is made and nothing is sent. Rooms make spans with
OpenTelemetry's API; the SDK is known here alone.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import Status, StatusCode

Attributes = Mapping[str, str | int | float | bool]

_PROPAGATOR = TraceContextTextMapPropagator()
_SCOPE = "triplane"
_FLUSH_TIMEOUT_MS = 3000


class Tracing:
    """The spans of this process; `Tracing(None)` makes none."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(_SCOPE) if provider else None

    @property
    def is_on(self) -> bool:
        return self._tracer is not None

    def start_span(
        self, name: str, kind: SpanKind, attributes: Attributes, parent: Context | None = None
    ) -> Span | None:
        """A span that its maker ends. Its parent is the current one unless `parent` is given."""
        if self._tracer is None:
            return None
        return self._tracer.start_span(name, context=parent, kind=kind, attributes=dict(attributes))

    def install(self) -> None:
        """Make this the process's provider, once: rooms that use OpenTelemetry's API alone send here then."""
        if self._provider:
            trace.set_tracer_provider(self._provider)

    def shutdown(self) -> None:
        """Send what is left and stop; waits a few seconds at most."""
        if self._provider:
            self._provider.force_flush(_FLUSH_TIMEOUT_MS)
            self._provider.shutdown()


def start_tracing(endpoint: str | None, service_name: str, version: str) -> Tracing:
    """Send spans to the OTLP receiver at `endpoint` (its base URL), in batches, from a thread of its own."""
    if endpoint is None:
        return Tracing(None)
    # Imported here: it brings an HTTP client along that no process without an endpoint needs.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    resource = Resource.create({"service.name": service_name, "service.version": version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


@contextmanager
def current(span: Span) -> Iterator[None]:
    """Make the span the parent of those that this task, and the tasks it starts, begin within."""
    token = otel_context.attach(set_span_in_context(span))
    try:
        yield
    finally:
        otel_context.detach(token)


def fail(span: Span, code: str) -> None:
    """Mark the span as failed with a stable code; an error's message may quote anything."""
    span.set_status(Status(StatusCode.ERROR))
    span.set_attribute("error.type", code)


def trace_id_of(span: Span) -> str:
    return f"{span.get_span_context().trace_id:032x}"


def context_from(headers: Mapping[str, str]) -> Context:
    """The caller's span, from its `traceparent`; none if it has sent none."""
    return _PROPAGATOR.extract(headers, context=Context())
