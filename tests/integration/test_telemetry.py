"""What a running API tells operators (a trace, numbers, logs), and what it never tells: people's words."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app_fixture import AppServer, app_environment, running_app
from otlp_receiver import OtlpReceiver, attributes_of, receiving

MODEL = "parrot"
PROMPT = "hush-hush-prompt"
ANSWER = "hush-hush-answer"


@dataclass
class RecordingEngine:
    """An engine on OpenAI's wire that keeps the headers it is sent; it fails on the word "fail"."""

    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)

    def answer(self, body: bytes) -> tuple[int, str, bytes]:
        if b"fail" in body:
            return 500, "application/json", json.dumps({"error": {"message": PROMPT}}).encode()
        deltas: list[dict[str, str]] = [{"role": "assistant"}, {"content": ANSWER}, {"content": " !"}, {}]
        events: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
            for delta in deltas
        ]
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
        events.append({"choices": [], "usage": usage})
        same = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        wire = "".join(f"data: {json.dumps(same | event)}\n\n" for event in events)
        return 200, "text/event-stream", f"{wire}data: [DONE]\n\n".encode()


@contextmanager
def recording_engine() -> Iterator[RecordingEngine]:
    engine = RecordingEngine()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.respond(200, "application/json", b'{"object": "list", "data": []}')

        def do_POST(self) -> None:
            engine.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.respond(*engine.answer(self.rfile.read(int(self.headers["content-length"]))))

        def respond(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        engine.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield engine
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Watched:
    app: AppServer
    engine: RecordingEngine
    spans: OtlpReceiver
    log_file: Path

    def session(self) -> aiohttp.ClientSession:
        headers = {"authorization": f"Bearer {self.app.key}"}
        return aiohttp.ClientSession(self.app.url, headers=headers, timeout=aiohttp.ClientTimeout(total=30))

    async def metrics(self) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
        """All samples, by name and labels."""
        async with self.session() as http, http.get("/metrics") as response:
            families = text_string_to_metric_families(await response.text())
        told: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
        for family in families:
            for sample in family.samples:
                told.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        return told


@pytest.fixture(scope="module")
def watched(
    app_database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    log_file = folder / "api.log"
    with recording_engine() as engine, receiving() as spans:
        environment = app_environment(folder, app_database_url, redis_url) | {
            "TRIPLANE_ENGINE_URL": engine.url,
            "TRIPLANE_MODEL": MODEL,
            "OTEL_EXPORTER_OTLP_ENDPOINT": spans.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with running_app(environment, log_file) as app:
            yield Watched(app, engine, spans, log_file)


def asking(content: str = PROMPT, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}


async def test_one_trace_leads_from_the_caller_through_the_planes_to_the_engine(watched: Watched) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    caller = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    async with (
        watched.session() as http,
        http.post("/v1/chat/completions", json=asking(stream=True), headers=caller) as response,
    ):
        assert ANSWER in await response.text()

    request_name, call_name = "POST /v1/chat/completions", f"chat {MODEL}"
    await asyncio.to_thread(watched.spans.wait_for, request_name, call_name)
    spans = {span.name: span for span in watched.spans.spans() if span.trace_id.hex() == trace}
    request, engine_call = spans[request_name], spans[call_name]
    assert request.parent_span_id.hex() == "00f067aa0ba902b7"
    assert engine_call.parent_span_id == request.span_id
    assert attributes_of(request)["triplane.request_id"] == response.headers["x-request-id"]
    assert attributes_of(engine_call)["gen_ai.usage.output_tokens"] == 2
    [sent] = [each for each in watched.engine.headers if trace in each.get("traceparent", "")]
    assert sent["traceparent"].split("-")[2] == engine_call.span_id.hex()


async def test_each_retry_is_a_span_of_its_own_in_the_callers_trace(watched: Watched) -> None:
    trace = "6bf92f3577b34da6a3ce929d0e0e4738"
    caller = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    async with (
        watched.session() as http,
        http.post("/v1/chat/completions", json=asking("fail"), headers=caller) as response,
    ):
        assert response.status == 502

    spans = await asyncio.to_thread(watched.spans.wait_for_trace, trace, 4)
    [request] = [span for span in spans if span.name == "POST /v1/chat/completions"]
    calls = [span for span in spans if span.name == f"chat {MODEL}"]
    assert {span.parent_span_id for span in calls} == {request.span_id}
    assert sorted(attributes_of(span)["triplane.attempt"] for span in calls) == [1, 2, 3]
    assert {attributes_of(span)["triplane.route"] for span in calls} == {"engine"}
    sent = [each["traceparent"].split("-") for each in watched.engine.headers if trace in each["traceparent"]]
    assert {span_id for _, _, span_id, _ in sent} == {span.span_id.hex() for span in calls}


async def test_a_turns_engine_call_is_in_the_trace_of_the_request_that_began_it(watched: Watched) -> None:
    trace = "5bf92f3577b34da6a3ce929d0e0e4737"
    async with watched.session() as http:
        async with http.post("/v1/conversations", json={}) as made:
            conversation = (await made.json())["id"]
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        body = asking(conversation_id=conversation)
        async with http.post("/v1/chat/completions", json=body, headers=headers) as response:
            assert (await response.json())["choices"][0]["message"]["content"] == f"{ANSWER} !"

    assert any(trace in sent.get("traceparent", "") for sent in watched.engine.headers)


async def test_metrics_tell_of_tokens_latencies_requests_and_errors(watched: Watched) -> None:
    before = await watched.metrics()
    async with watched.session() as http:
        async with http.post("/v1/conversations", json={}) as made:
            turn = asking("fail", conversation_id=(await made.json())["id"])
        for body in (asking(stream=True), turn, asking(model="nonesuch")):
            async with http.post("/v1/chat/completions", json=body) as response:
                await response.read()
        told = await watched.metrics()

    def grown(name: str, **labels: str) -> float:
        key = frozenset(labels.items())
        return told[name][key] - before.get(name, {}).get(key, 0)

    at = {"model": MODEL, "route": "engine"}
    payer = {**at, "plan": "default"}
    assert grown("triplane_time_to_first_token_seconds_count", **at) == 1
    assert grown("triplane_inter_token_latency_seconds_count", **at) == 1
    assert grown("triplane_tokens_total", **payer, kind="prompt") == 9
    assert grown("triplane_tokens_total", **payer, kind="completion") == 2
    assert grown("triplane_engine_calls_total", **at, outcome="complete", code="") == 1
    calls = 3  # one, and the two retries that a route has by default
    assert grown("triplane_engine_calls_total", **at, outcome="failed", code="engine_failed") == calls
    assert grown("triplane_retries_total", **at, reason="engine_failed") == calls - 1
    assert grown("triplane_queue_wait_seconds_count", route="engine", plan="default") == 1 + calls
    assert told["triplane_queue_depth"][frozenset({("route", "engine"), ("plan", "default")})] == 0
    assert grown("triplane_turns_total", status="failed") == 1
    assert told["triplane_engine_calls_in_flight"][frozenset(at.items())] == 0
    assert told["triplane_engine_queue_depth"][frozenset(at.items())] == 0
    route = {"route": "/v1/chat/completions", "method": "POST"}
    assert grown("triplane_http_request_duration_seconds_count", **route, status="200") == 1
    assert grown("triplane_http_request_duration_seconds_count", **route, status="404") == 1
    assert grown("triplane_http_errors_total", code="model_not_found") == 1
    assert grown("triplane_http_errors_total", code="engine_failed") == 1
    assert told["triplane_streams_open"][frozenset()] == 0


async def test_no_text_and_no_key_is_in_a_span_a_metric_or_a_log(watched: Watched) -> None:
    async with watched.session() as http:
        for body in (asking(stream=True), asking(f"fail {PROMPT}"), asking(PROMPT, temperature=PROMPT)):
            async with http.post("/v1/chat/completions", json=body) as response:
                await response.read()
        async with http.get("/sign-in", params={"token": PROMPT}, allow_redirects=False) as response:
            await response.read()
        async with http.get("/metrics") as response:
            metrics = await response.text()
    await asyncio.to_thread(watched.spans.wait_for, "GET /metrics")

    spans = b"".join(watched.spans.payloads).decode("latin-1")
    logs = watched.log_file.read_text()
    for said in (PROMPT, ANSWER, watched.app.key):
        assert said not in spans
        assert said not in metrics
        assert said not in logs


async def test_every_line_of_the_log_is_json_with_its_request_id(watched: Watched) -> None:
    async with watched.session() as http:
        failing = http.post("/v1/chat/completions", json=asking("fail"), headers={"x-request-id": "findme-1"})
        async with failing as response:
            assert response.status == 502

    lines = [json.loads(line) for line in watched.log_file.read_text().splitlines()]
    assert any(line.get("request_id") == "findme-1" and line.get("code") == "engine_failed" for line in lines)
