"""The outermost layer, in plain ASGI: request id, headers for all, compression; API or web app.

It passes every message of a stream on at once: only a response that comes in one piece is compressed.
"""

import asyncio
import gzip
import re
from collections.abc import Collection
from typing import Any

import structlog

from triplane.domain.ids import new_id
from triplane.orchestration.bff.deps import ASGIApp
from triplane.orchestration.bff.scope import limits_of, set_request_id
from triplane.wire.limit_headers import limit_headers

_SANE_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}\Z")
_COMPRESSIBLE = re.compile(
    rb"(?:application/(?:json|javascript|manifest\+json)|text/(?!event-stream)|image/svg)"
)
_SMALLEST = 1024
_IN_THREAD_FROM = 32 * 1024

_CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'; object-src 'none'"
)
_DIAGRAM_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
"""For the frame that draws diagrams (web/src/diagram): it may style itself, and reach nothing."""
_DIAGRAM_PATH = "/diagram.html"
SECURITY_HEADERS: list[tuple[bytes, bytes]] = [
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class Edge:
    """`api_paths` are the first segments of the API's paths ("v1"); the rest belongs to `web`."""

    def __init__(self, api: ASGIApp, web: ASGIApp, api_paths: Collection[str], *, https: bool) -> None:
        self._api = api
        self._web = web
        self._api_paths = frozenset(api_paths)
        self._headers = [*SECURITY_HEADERS]
        if https:
            self._headers.append((b"strict-transport-security", b"max-age=31536000"))
        policy = b"content-security-policy"
        others = [header for header in self._headers if header[0] != policy]
        self._diagram_headers = [(policy, _DIAGRAM_CSP.encode()), *others]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        incoming = {name: value for name, value in scope["headers"] if name in _READ_HEADERS}
        given = incoming.get(b"x-request-id", b"")
        request_id = given.decode() if _SANE_ID.match(given) else new_id("req")
        set_request_id(scope, request_id)
        app = self._api if first_segment(scope["path"]) in self._api_paths else self._web
        secure = self._diagram_headers if scope["path"] == _DIAGRAM_PATH else self._headers
        headers = [*secure, (b"x-request-id", request_id.encode())]
        gzip_accepted = _accepts_gzip(incoming.get(b"accept-encoding", b""))
        sender = _Sender(scope, send, headers, gzip_accepted=gzip_accepted)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await app(scope, receive, sender)


def first_segment(path: str) -> str:
    return path.lstrip("/").partition("/")[0]


_READ_HEADERS = frozenset({b"x-request-id", b"accept-encoding"})


def _accepts_gzip(accept_encoding: bytes) -> bool:
    for part in accept_encoding.lower().split(b","):
        name, _, weight = part.partition(b";")
        if name.strip() == b"gzip":
            return weight.replace(b" ", b"").rstrip(b"0") not in (b"q=", b"q=0.")
    return False


class _Sender:
    """Adds the headers, and compresses what comes in one piece and is worth it."""

    def __init__(
        self, scope: Any, send: Any, headers: list[tuple[bytes, bytes]], *, gzip_accepted: bool
    ) -> None:
        self._scope = scope
        self._send = send
        self._headers = headers
        self._gzip_accepted = gzip_accepted
        self._held: dict[str, Any] | None = None

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            added = [header for header in self._headers if header[0] not in given]
            if limits := limits_of(self._scope):
                added += [(name.encode(), value.encode()) for name, value in limit_headers(limits)]
            message = {**message, "headers": [*message["headers"], *added]}
            if self._may_compress(message):
                self._held = message
                return
        elif self._held is not None:
            start, self._held = self._held, None
            start, message = await _compressed(start, message, self._gzip_accepted)
            await self._send(start)
        await self._send(message)

    def _may_compress(self, start: dict[str, Any]) -> bool:
        headers = {name.lower(): value for name, value in start["headers"]}
        return (
            b"content-encoding" not in headers
            and start["status"] not in (204, 206, 304)
            and _COMPRESSIBLE.match(headers.get(b"content-type", b"")) is not None
        )


async def _compressed(
    start: dict[str, Any], body: dict[str, Any], gzip_accepted: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    content = body.get("body", b"")
    if body.get("more_body") or len(content) < _SMALLEST:
        return start, body
    headers = [*start["headers"], (b"vary", b"accept-encoding")]
    if gzip_accepted:
        if len(content) >= _IN_THREAD_FROM:
            content = await asyncio.to_thread(gzip.compress, content, 5)
        else:
            content = gzip.compress(content, 5)
        headers = [header for header in headers if header[0].lower() != b"content-length"]
        headers += [(b"content-encoding", b"gzip"), (b"content-length", str(len(content)).encode())]
    return {**start, "headers": headers}, {**body, "body": content}
