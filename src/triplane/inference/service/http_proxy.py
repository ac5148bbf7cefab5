"""The gateway's own HTTP face: its routes, who may use them, what they answer."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from time import perf_counter
from urllib.parse import unquote

import msgspec
import structlog
from opentelemetry.trace import SpanKind

from triplane.domain.completion import Flow
from triplane.domain.errors import NotFound, RateLimited, TriplaneError
from triplane.domain.ids import new_id
from triplane.inference.gateway import Gateway
from triplane.inference.service.completions import Completions
from triplane.inference.service.embeddings import EMBEDDINGS, Embeddings
from triplane.inference.service.keys import KeyFile
from triplane.inference.service.reply import Reply
from triplane.inference.service.request import Head, MethodNotAllowed, status_of_http
from triplane.inference.service.wires import CHAT, COUNT_TOKENS, MESSAGES, error_body
from triplane.telemetry.metrics import CONTENT_TYPE, Metrics
from triplane.telemetry.traces import Tracing, context_from, current, fail
from triplane.wire.errors import (
    RETRY_AFTER_S,
    ErrorBody,
    ErrorDetail,
    UnsupportedMediaType,
    error_headers,
    status_of,
)
from triplane.wire.limit_headers import limit_headers
from triplane.wire.models import ModelList, present_model
from triplane.wire.strict_json import is_json

CHECK_S = 2.0
_SANE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}\Z")
_JSON = ("content-type", "application/json")
_NO_STORE = ("cache-control", "no-store")
_MODEL = "/v1/models/"

_encode = msgspec.json.Encoder().encode

log = structlog.get_logger(__name__)


class Route(msgspec.Struct, frozen=True):
    """`name` is what metrics call it. A public one needs no key."""

    name: str
    method: str
    is_public: bool


_CHAT = Route(CHAT, "POST", False)
_MESSAGES = Route(MESSAGES, "POST", False)
_MODELS = Route("/v1/models", "GET", False)
_ONE_MODEL = Route("/v1/models/{model_id}", "GET", False)
_LIVE = Route("/livez", "GET", True)
_READY = Route("/readyz", "GET", True)
_METRICS = Route("/metrics", "GET", True)
_EMBEDDINGS = Route(EMBEDDINGS, "POST", False)
_COUNT = Route(COUNT_TOKENS, "POST", False)
_ASKING = (_CHAT, _MESSAGES, _EMBEDDINGS, _COUNT)
_ROUTES = {route.name: route for route in (*_ASKING, _MODELS, _LIVE, _READY, _METRICS)}


class Admitted(msgspec.Struct, frozen=True):
    route: Route
    flow: Flow | None


class HttpProxy:
    """The `Application` of the server. `is_draining` says whether the process is about to end."""

    def __init__(
        self,
        gateway: Gateway,
        keys: KeyFile,
        completions: Completions,
        embeddings: Embeddings,
        metrics: Metrics,
        tracing: Tracing,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._gateway = gateway
        self._keys = keys
        self._completions = completions
        self._embeddings = embeddings
        self._metrics = metrics
        self._tracing = tracing
        self._is_draining = is_draining
        self._answers: dict[str, Callable[[Head, Reply], Awaitable[None]]] = {
            _MODELS.name: self._models,
            _ONE_MODEL.name: self._one_model,
            _LIVE.name: self._live,
            _READY.name: self._ready,
            _METRICS.name: self._exposition,
        }

    def look(self) -> None:
        self._keys.refresh()

    def admit(self, head: Head) -> Admitted:
        """Raises NotFound, MethodNotAllowed, Unauthenticated, UnsupportedMediaType."""
        route = _route_of(head.path)
        if route is None:
            raise NotFound("There is nothing at this path.")
        if head.method != route.method:
            raise MethodNotAllowed(route.method)
        if route.is_public:
            return Admitted(route, None)
        flow = self._keys.find(head.header(b"authorization"), head.header(b"x-api-key"))
        if route in _ASKING and not is_json(head.header(b"content-type")):
            raise UnsupportedMediaType("Send the body as JSON, with `Content-Type: application/json`.")
        return Admitted(route, flow)

    async def respond(self, admitted: Admitted, head: Head, body: bytes, reply: Reply) -> None:
        began = perf_counter()
        status = 499
        try:
            if admitted.route in _ASKING and admitted.flow is not None:
                await self._complete(admitted.flow, head, body, reply)
            else:
                await self._answers[admitted.route.name](head, reply)
            status = reply.status
        except TriplaneError as error:
            self._answer_error(error, head, reply)
            status = reply.status
        finally:
            self._metrics.http_request(
                admitted.route.name, admitted.route.method, status, perf_counter() - began
            )

    def refuse(self, error: TriplaneError, head: Head | None, reply: Reply) -> None:
        self._answer_error(error, head, reply)
        route = _route_of(head.path) if head else None
        method = route.method if route and head and head.method == route.method else "OTHER"
        self._metrics.http_request(route.name if route else "other", method, reply.status, 0.0)

    def failed(self, error: BaseException, reply: Reply | None) -> None:
        request_id = new_id("req")
        log.error("unexpected error", request_id=request_id, exc_info=error)
        self._metrics.http_error("internal_error")
        if reply is None:
            return
        if reply.is_committed:
            reply.give_up()
            return
        message = f"Something went wrong on our side. Its request id is {request_id}."
        detail = ErrorDetail(message=message, type="api_error", code="internal_error")
        reply.send(500, (_JSON, _NO_STORE), _encode(ErrorBody(error=detail)))

    async def _complete(self, flow: Flow, head: Head, body: bytes, reply: Reply) -> None:
        request_id = _request_id(head)
        self._metrics.stream_opened()
        try:
            with self._span(head, request_id) if self._tracing.is_on else nullcontext():
                code = await self._answer(head.path, flow, request_id, body, reply)
        finally:
            self._metrics.stream_closed()
        if code:
            self._metrics.http_error(code)

    async def _answer(self, path: str, flow: Flow, request_id: str, body: bytes, reply: Reply) -> str | None:
        if path == EMBEDDINGS:
            await self._embeddings.answer(flow, request_id, body, reply)
            return None
        if path == COUNT_TOKENS:
            await self._completions.count(flow, request_id, body, reply)
            return None
        return await self._completions.answer(path, flow, request_id, body, reply)

    @contextmanager
    def _span(self, head: Head, request_id: str) -> Iterator[None]:
        """The request's span, a child of the caller's, around all that is done for it."""
        attributes = {"http.request.method": head.method, "http.route": head.path}
        caller = context_from({"traceparent": head.header(b"traceparent")})
        span = self._tracing.start_span(f"POST {head.path}", SpanKind.SERVER, attributes, caller)
        assert span is not None, "only asked for while tracing is on"
        span.set_attribute("triplane.request_id", request_id)
        with current(span):
            try:
                yield
            except TriplaneError as error:
                fail(span, error.code)
                raise
            finally:
                span.end()

    async def _models(self, head: Head, reply: Reply) -> None:
        cards = await self._gateway.models()
        reply.send(200, (_JSON,), _encode(ModelList(data=[present_model(card) for card in cards])))

    async def _one_model(self, head: Head, reply: Reply) -> None:
        card = await self._gateway.model(unquote(head.path.removeprefix(_MODEL)))
        reply.send(200, (_JSON,), _encode(present_model(card)))

    async def _live(self, head: Head, reply: Reply) -> None:
        reply.send(200, (_JSON, _NO_STORE), b'{"status":"alive"}')

    async def _ready(self, head: Head, reply: Reply) -> None:
        """Whether the engines can serve; not once the process has been told to stop."""
        reason = "stopping" if self._is_draining() else await self._engine_trouble()
        if reason is None:
            reply.send(200, (_JSON, _NO_STORE), b'{"status":"ready","checks":["engine"]}')
            return
        detail = ErrorDetail(message=f"Can't serve: {reason}.", type="api_error", code="not_ready")
        headers = (_JSON, _NO_STORE, ("retry-after", str(RETRY_AFTER_S)))
        reply.send(503, headers, _encode(ErrorBody(error=detail)))

    async def _engine_trouble(self) -> str | None:
        try:
            async with asyncio.timeout(CHECK_S):
                await self._gateway.check()
        except (TriplaneError, TimeoutError):
            return "engine"
        return None

    async def _exposition(self, head: Head, reply: Reply) -> None:
        numbers = await asyncio.to_thread(self._metrics.exposition)
        reply.send(200, (("content-type", CONTENT_TYPE),), numbers)

    def _answer_error(self, error: TriplaneError, head: Head | None, reply: Reply) -> None:
        self._metrics.http_error(error.code)
        if reply.is_committed:
            reply.give_up()
            return
        request_id = _request_id(head) if head else new_id("req")
        headers = [_JSON, _NO_STORE, *error_headers(error).items()]
        headers += [("x-request-id", request_id), ("request-id", request_id)]
        if isinstance(error, RateLimited) and error.limits:
            headers += limit_headers(error.limits)
        if isinstance(error, MethodNotAllowed):
            headers.append(("allow", error.allowed))
        reply.send(
            status_of_http(error) or status_of(error),
            headers,
            error_body(head.path if head else "", error, request_id),
        )


def _route_of(path: str) -> Route | None:
    return _ROUTES.get(path) or (_ONE_MODEL if path.startswith(_MODEL) and path != _MODEL else None)


def _request_id(head: Head) -> str:
    """The caller's own id if it is sane, else a new one; the same at every call."""
    given = head.header(b"x-request-id")
    if not _SANE_ID.match(given):
        given = new_id("req")
        head.headers[b"x-request-id"] = given.encode()
    return given
