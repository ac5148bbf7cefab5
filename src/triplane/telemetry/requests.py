"""Every HTTP request's duration, status and span, in plain ASGI around the whole application.

The application says what it knows in the request's scope: the router puts `path_template` there, the error
handlers `state["error_code"]`, the outermost layer `state["request_id"]`. Paths, query strings, headers and
bodies go nowhere: they name things that belong to people.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any

from opentelemetry.trace import Span, SpanKind

from triplane.telemetry.logs import bind_ids, forget_ids
from triplane.telemetry.metrics import Metrics
from triplane.telemetry.traces import Tracing, context_from, current, fail, trace_id_of

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
Send = Callable[[Any], Awaitable[None]]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_GONE = 499
_BUG = 500


class RequestTelemetry:
    """The middleware: what it adds to each message of a stream is one call and one comparison."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        forget_ids()
        started = perf_counter()
        response = _Response(send, self._metrics)
        span = self._start_span(scope)
        without_status = _BUG
        try:
            with _as_current(span):
                await self._app(scope, receive, response)
            without_status = _CLIENT_GONE
        finally:
            response.close()
            self._record(scope, response.status or without_status, perf_counter() - started, span)

    def _start_span(self, scope: Any) -> Span | None:
        if not self._tracing.is_on:
            return None
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = _method(scope)
        span = self._tracing.start_span(
            method, SpanKind.SERVER, {"http.request.method": method}, context_from(given)
        )
        if span:
            bind_ids(trace_id=trace_id_of(span))
        return span

    def _record(self, scope: Any, status: int, seconds: float, span: Span | None) -> None:
        route = scope.get("path_template") or "other"
        method = _method(scope)
        state = scope.get("state") or {}
        code = state.get("error_code") or (f"http_{status}" if status >= 400 else None)
        self._metrics.http_request(route, method, status, seconds)
        if code:
            self._metrics.http_error(code)
        if span:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            if request_id := state.get("request_id"):
                span.set_attribute("triplane.request_id", request_id)
            if status >= 500:
                fail(span, code or "internal_error")
            span.end()


class _Response:
    """Notes the status, and counts an event stream as open until the response ends."""

    __slots__ = ("_is_stream", "_metrics", "_send", "status")

    def __init__(self, send: Send, metrics: Metrics) -> None:
        self._send = send
        self._metrics = metrics
        self._is_stream = False
        self.status: int | None = None

    def __call__(self, message: Any) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in message["headers"]
            ):
                self._is_stream = True
                self._metrics.stream_opened()
        return self._send(message)

    def close(self) -> None:
        if self._is_stream:
            self._is_stream = False
            self._metrics.stream_closed()


def _as_current(span: Span | None) -> AbstractContextManager[None]:
    return current(span) if span else nullcontext()


def _method(scope: Any) -> str:
    """A method is whatever a caller writes, so only the known ones become labels."""
    method = scope["method"]
    return method if method in _METHODS else "OTHER"
