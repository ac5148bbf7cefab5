"""What the middleware tells of a request: its duration and status, its stream, its span."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opentelemetry.trace import SpanKind
from prometheus_client.parser import text_string_to_metric_families

from gateways import engine_call
from otlp_receiver import attributes_of, receiving
from triplane.inference.observer import GatewayObserver
from triplane.telemetry.completions import CompletionMetrics
from triplane.telemetry.metrics import Metrics
from triplane.telemetry.requests import RequestTelemetry
from triplane.telemetry.traces import Tracing, start_tracing

SECRET = "tp-very-secret"
PARENT = "0af7651916cd43dd8448eb211c80319c"

Route = Callable[[Any, Any, Any], Awaitable[None]]


def answering(status: int, content_type: bytes = b"application/json", **scope_additions: Any) -> Route:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path_template"] = "/v1/conversations/{conversation_id}"
        scope.update(scope_additions)
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]}
        )
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})

    return app


def request(method: str = "GET", **headers: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": "/v1/conversations/conv_1",
        "query_string": f"token={SECRET}".encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


async def call(app: Route, scope: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app(scope, receive, send)
    return sent


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def requests_of(metrics: Metrics, status: str, method: str = "GET", route: str | None = None) -> float | None:
    labels = {"route": route or "/v1/conversations/{conversation_id}", "method": method, "status": status}
    return value(metrics, "triplane_http_request_duration_seconds_count", **labels)


async def test_a_request_is_counted_by_its_route_template_method_and_status() -> None:
    metrics = Metrics({})

    await call(RequestTelemetry(answering(200), metrics, Tracing(None)), request())

    assert requests_of(metrics, "200") == 1


async def test_the_messages_pass_unchanged() -> None:
    sent = await call(RequestTelemetry(answering(200), Metrics({}), Tracing(None)), request())

    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["body"] == b"{}"


async def test_a_made_up_method_becomes_no_label_of_its_own() -> None:
    metrics = Metrics({})

    await call(RequestTelemetry(answering(405), metrics, Tracing(None)), request("FLOOD-1"))

    assert requests_of(metrics, "405", method="OTHER") == 1


async def test_a_path_without_a_route_is_counted_under_one_name() -> None:
    metrics = Metrics({})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})

    await call(RequestTelemetry(app, metrics, Tracing(None)), request())

    assert requests_of(metrics, "404", route="other") == 1


async def test_an_error_is_counted_by_the_code_that_its_handler_noted() -> None:
    metrics = Metrics({})
    app = answering(404, state={"error_code": "model_not_found"})

    await call(RequestTelemetry(app, metrics, Tracing(None)), request())
    await call(RequestTelemetry(answering(503), metrics, Tracing(None)), request())

    assert value(metrics, "triplane_http_errors_total", code="model_not_found") == 1
    assert value(metrics, "triplane_http_errors_total", code="http_503") == 1


async def test_a_request_that_breaks_without_an_answer_counts_as_500_and_one_nobody_waits_for_as_499() -> (
    None
):
    metrics = Metrics({})

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError

    async def leaves(scope: Any, receive: Any, send: Any) -> None:
        pass

    with pytest.raises(RuntimeError):
        await call(RequestTelemetry(breaks, metrics, Tracing(None)), request())
    await call(RequestTelemetry(leaves, metrics, Tracing(None)), request())

    assert requests_of(metrics, "500", route="other") == 1
    assert requests_of(metrics, "499", route="other") == 1


async def test_an_event_stream_is_open_until_its_response_ends_however_it_ends() -> None:
    metrics = Metrics({})
    during: list[float | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        during.append(value(metrics, "triplane_streams_open"))
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await call(RequestTelemetry(app, metrics, Tracing(None)), request())

    assert during == [1]
    assert value(metrics, "triplane_streams_open") == 0


async def test_the_span_of_a_request_joins_the_callers_trace_and_holds_no_secret() -> None:
    headers = {"traceparent": f"00-{PARENT}-b7ad6b7169203331-01", "authorization": f"Bearer {SECRET}"}
    with receiving() as receiver:
        tracing = start_tracing(receiver.url, "triplane-api", "1.2.3")
        app = answering(503, state={"request_id": "req_1", "error_code": "overloaded"})

        await call(RequestTelemetry(app, Metrics({}), tracing), request(**headers))
        await asyncio.to_thread(tracing.shutdown)

        [span] = receiver.spans()
        [sent] = receiver.requests()
        resource = {item.key: item.value.string_value for item in sent.resource_spans[0].resource.attributes}
        assert receiver.paths == ["/v1/traces"]
        assert (resource["service.name"], resource["service.version"]) == ("triplane-api", "1.2.3")
        assert span.name == "GET /v1/conversations/{conversation_id}"
        assert span.trace_id.hex() == PARENT
        assert attributes_of(span) == {
            "http.request.method": "GET",
            "http.route": "/v1/conversations/{conversation_id}",
            "http.response.status_code": 503,
            "triplane.request_id": "req_1",
            "error.type": "overloaded",
        }
        assert SECRET.encode() not in b"".join(receiver.payloads)


async def test_what_begins_within_a_request_is_its_child_also_in_a_task_that_outlives_it() -> None:
    with receiving() as receiver:
        tracing = start_tracing(receiver.url, "triplane-api", "1")
        answered = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def turn() -> None:
            await answered.wait()
            span = tracing.start_span("chat smollm2", SpanKind.CLIENT, {})
            assert span is not None
            span.end()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            tasks.append(asyncio.create_task(turn()))

        await call(RequestTelemetry(app, Metrics({}), tracing), request("POST"))
        answered.set()
        await tasks[0]
        await asyncio.to_thread(tracing.shutdown)

        spans = receiver.wait_for("POST other", "chat smollm2")
    http, chat = spans["POST other"], spans["chat smollm2"]
    assert (chat.parent_span_id, chat.trace_id) == (http.span_id, http.trace_id)


async def test_without_an_endpoint_nothing_is_traced() -> None:
    tracing = start_tracing(None, "triplane-api", "1")

    assert not tracing.is_on
    assert tracing.start_span("turn", SpanKind.INTERNAL, {}) is None
    tracing.install()
    tracing.shutdown()


async def test_a_receiver_that_is_down_harms_nobody() -> None:
    with receiving() as receiver:
        gone = receiver.url
    tracing = start_tracing(gone, "triplane-api", "1")

    sent = await call(RequestTelemetry(answering(200), Metrics({}), tracing), request())
    await asyncio.to_thread(tracing.shutdown)

    assert sent[0]["status"] == 200


@pytest.mark.parametrize(
    ("reason", "code", "outcome"),
    [("stop", None, "complete"), (None, "engine_failed", "failed"), (None, None, "cancelled")],
)
def test_an_engine_call_is_counted_by_how_it_ended(reason: Any, code: str | None, outcome: str) -> None:
    metrics = Metrics({})
    observer: GatewayObserver = CompletionMetrics(metrics)

    observer.begin(model="smollm2", route="local", replica="embedded", plan="free").ended(
        engine_call(), reason, code
    )

    labels = {"model": "smollm2", "route": "local", "outcome": outcome, "code": code or ""}
    assert value(metrics, "triplane_engine_calls_total", **labels) == 1
