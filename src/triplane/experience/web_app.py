"""Serves the built web app, or says plainly what is missing where it wasn't built. Plain ASGI."""

import asyncio
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_FOREVER = b"public, max-age=31536000, immutable"
_ASK_EACH_TIME = b"no-cache"
_ENCODINGS = ((b"br", ".br"), (b"gzip", ".gz"))

_NOT_BUILT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Triplane: the web page is not built</title>
<h1>The web page is not built</h1>
<p>It needs Node.js 20 or newer. Install that, then run this in the project's folder and reload:</p>
<pre>make web</pre>
<p>The rest works: talk in a terminal with <code>triplane chat</code>, or point any OpenAI client at
<code>/v1</code> of this address. <a href="/docs">The API's description</a> is here.</p>
</html>
"""


@dataclass(frozen=True)
class _Asset:
    content: bytes
    headers: list[Header]


class WebApp:
    """`dist` is Vite's output: `index.html`, and under `assets/` files whose names carry their hash."""

    def __init__(self, dist: Path) -> None:
        self._dist = dist.resolve()

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _send(scope, send, 405, [(b"allow", b"GET, HEAD")], b"This page can only be read.\n")
            return
        request = dict(scope["headers"])
        asset = await asyncio.to_thread(self._find, scope["path"], request.get(b"accept-encoding", b""))
        if asset is not None:
            await _send_asset(scope, send, asset, request.get(b"if-none-match"))
        elif not _wants_page(scope["path"], request.get(b"accept", b"")):
            await _send(scope, send, 404, [], b"There is nothing at this path.\n")
        else:
            await self._send_page(scope, send, request)

    async def _send_page(self, scope: Any, send: Send, request: dict[bytes, bytes]) -> None:
        """The app has its own paths, which all begin with the same page."""
        page = await asyncio.to_thread(self._find, "/index.html", request.get(b"accept-encoding", b""))
        if page is None:
            headers = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store")]
            await _send(scope, send, 503, headers, _NOT_BUILT.encode())
        else:
            await _send_asset(scope, send, page, request.get(b"if-none-match"))

    def _find(self, path: str, accept_encoding: bytes) -> _Asset | None:
        """The file of this path inside `dist`, in the best encoding that lies beside it."""
        relative = path.lstrip("/")
        if not relative or "\0" in relative or "\\" in relative or relative.endswith((".br", ".gz")):
            return None
        file = (self._dist / relative).resolve()
        if not file.is_relative_to(self._dist) or not file.is_file():
            return None
        media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        if media_type.startswith("text/") or media_type == "application/javascript":
            media_type += "; charset=utf-8"
        kept = _FOREVER if relative.startswith("assets/") else _ASK_EACH_TIME
        headers = [(b"content-type", media_type.encode()), (b"cache-control", kept)]
        if relative.startswith("assets/"):
            # The frame that draws diagrams has no origin, so that its own script comes from elsewhere for it.
            headers.append((b"access-control-allow-origin", b"*"))
        return _encoded(file, headers, accept_encoding)


def _encoded(file: Path, headers: list[Header], accept_encoding: bytes) -> _Asset:
    variants = [
        (name, file.with_name(file.name + suffix))
        for name, suffix in _ENCODINGS
        if file.with_name(file.name + suffix).is_file()
    ]
    accepted = {part.strip().lower() for part in accept_encoding.split(b",")}
    chosen = next(((name, variant) for name, variant in variants if name in accepted), None)
    if variants:
        headers = [*headers, (b"vary", b"accept-encoding")]
    if chosen is not None:
        headers = [*headers, (b"content-encoding", chosen[0])]
    content = (chosen[1] if chosen else file).read_bytes()
    # Weak, because the same page may go out compressed differently on its way.
    etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'.encode()
    return _Asset(content, [*headers, (b"etag", etag)])


def _wants_page(path: str, accept: bytes) -> bool:
    """Whether a browser goes there, and not a script that asks for a file which doesn't exist."""
    return not path.startswith("/assets/") and (path == "/" or b"text/html" in accept)


async def _send_asset(scope: Any, send: Send, asset: _Asset, known: bytes | None) -> None:
    etag = dict(asset.headers)[b"etag"]
    if known is not None and etag in [part.strip() for part in known.split(b",")]:
        await _send(scope, send, 304, [h for h in asset.headers if h[0] != b"content-encoding"], b"")
    else:
        await _send(scope, send, 200, asset.headers, asset.content)


async def _send(scope: Any, send: Send, status: int, headers: list[Header], body: bytes) -> None:
    if not any(name == b"content-type" for name, _ in headers) and status != 304:
        headers = [*headers, (b"content-type", b"text/plain; charset=utf-8")]
    if status != 304:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
