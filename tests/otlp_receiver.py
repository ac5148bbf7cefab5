"""A receiver of OpenTelemetry's protocol over HTTP, in this process; it keeps the bytes that came."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class OtlpReceiver:
    """`payloads` are the requests' bodies; `wait_for` waits for spans by their names."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.paths: list[str] = []
        self._came = threading.Condition()
        self.url = ""

    def add(self, path: str, payload: bytes) -> None:
        with self._came:
            self.paths.append(path)
            self.payloads.append(payload)
            self._came.notify_all()

    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(payload) for payload in self.payloads]

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for(self, *names: str, timeout_s: float = 20) -> dict[str, Span]:
        """The spans by name, once all of these have come."""

        def all_came() -> bool:
            return set(names) <= {span.name for span in self.spans()}

        with self._came:
            assert self._came.wait_for(all_came, timeout_s), sorted(span.name for span in self.spans())
        return {span.name: span for span in self.spans()}

    def wait_for_trace(self, trace: str, count: int, timeout_s: float = 20) -> list[Span]:
        """The spans of one trace, once there are so many."""

        def of_trace() -> list[Span]:
            return [span for span in self.spans() if span.trace_id.hex() == trace]

        with self._came:
            assert self._came.wait_for(lambda: len(of_trace()) >= count, timeout_s), of_trace()
            return of_trace()


def attributes_of(span: Span) -> dict[str, str | int]:
    return {
        item.key: item.value.int_value if item.value.HasField("int_value") else item.value.string_value
        for item in span.attributes
    }


@contextmanager
def receiving() -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.add(self.path, self.rfile.read(int(self.headers["content-length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
