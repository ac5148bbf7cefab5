"""What holds for every answer: headers, compression, health, the description; and the web app beside it."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import get
from litestar.response import Stream

from http_app import HttpApp
from triplane.domain.errors import StoreUnavailable
from triplane.orchestration.bff import health

BROWSER = {"accept": "text/html,application/xhtml+xml"}


@pytest.mark.parametrize("path", ["/", "/v1/models", "/v1/nothing", "/healthz", "/docs", "/sign-in"])
async def test_every_answer_forbids_what_a_page_of_ours_never_does(
    client: httpx.AsyncClient, path: str
) -> None:
    headers = (await client.get(path)).headers

    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self';" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "referrer-policy" in headers
    assert "permissions-policy" in headers
    assert "access-control-allow-origin" not in headers
    assert "strict-transport-security" not in headers


async def test_the_frame_that_draws_diagrams_may_style_itself_and_reaches_nothing(
    client: httpx.AsyncClient,
) -> None:
    policy = (await client.get("/diagram.html")).headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'self'" in policy


async def test_a_large_answer_is_compressed_where_the_client_takes_it(client: httpx.AsyncClient) -> None:
    plain = await client.get("/openapi.json", headers={"accept-encoding": "identity"})
    refused = await client.get("/openapi.json", headers={"accept-encoding": "gzip;q=0"})
    packed = await client.get("/openapi.json", headers={"accept-encoding": "br, gzip"})

    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in refused.headers
    assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
    assert packed.json() == plain.json()


async def call(app: Any, path: str, received: "asyncio.Queue[dict[str, Any]]") -> None:
    """Call an ASGI app with a client that stays on the line."""
    headers = [(b"host", b"x"), (b"accept-encoding", b"gzip")]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": headers, "http_version": "1.1", "scheme": "http", "client": None, "server": None,
             "asgi": {"version": "3.0"}, "root_path": ""}  # fmt: skip

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("never")

    await app(scope, receive, received.put)


async def test_each_event_of_a_stream_goes_out_at_once_and_uncompressed() -> None:
    gate = asyncio.Event()

    @get("/v1/stream", opt={"public": True}, media_type="text/event-stream")
    async def stream() -> Stream:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: " + b"x" * 5000 + b"\n\n"
            await gate.wait()
            yield b"data: [DONE]\n\n"

        return Stream(events, media_type="text/event-stream")

    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        app = HttpApp(extra_handlers=[stream]).build()
        browser = tasks.create_task(call(app, "/v1/stream", received))
        start, first = await received.get(), await received.get()
        gate.set()
        while (await received.get())["more_body"]:
            continue
        browser.cancel()

    assert b"content-encoding" not in dict(start["headers"])
    assert first["body"].startswith(b"data: x")


async def test_live_and_ready_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.05)

    async def down() -> None:
        raise StoreUnavailable("no")

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def fine() -> None:
        return

    http_app = HttpApp(checks={"PostgreSQL": down, "Redis": fine, "engine": hangs})
    async with http_app.anonymous() as client:
        alive, ready = await client.get("/healthz"), await client.get("/readyz")
        http_app.checks = {"Redis": fine}
    async with http_app.anonymous() as client:
        better = await client.get("/readyz")

    assert alive.status_code == 200
    assert ready.status_code == 503
    assert ready.json()["error"]["message"] == "Can't serve: PostgreSQL, engine."
    assert "retry-after" in ready.headers
    assert better.json() == {"status": "ready", "checks": ["Redis"]}


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")

    assert answer.text == "triplane_up 1\n"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_the_description_names_every_route_its_keys_and_its_errors(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()

    assert {"/v1/models", "/v1/conversations", "/v1/me", "/healthz"} <= set(document["paths"])
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key", "cookie"}
    create = document["paths"]["/v1/conversations"]["post"]
    assert "ErrorBody" in str(create["responses"]["400"])
    assert "NewConversation" in str(create["requestBody"])
    assert not any(path.startswith("/schema") for path in document["paths"])


async def test_the_documentation_page_asks_no_other_host(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")

    assert "http" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "openapi.json", "favicon-32x32.png"):
        assert (await client.get(f"/docs/{name}")).status_code == 200
    assert (await client.get("/docs/__init__.py")).status_code == 404


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    (tmp_path / "dist" / "assets").mkdir(parents=True)
    (tmp_path / "dist" / "index.html").write_text("<!doctype html><title>Triplane</title>")
    (tmp_path / "dist" / "assets" / "app-1a2b.js").write_text("let x = 1;" * 500)
    (tmp_path / "dist" / "assets" / "app-1a2b.js.br").write_bytes(b"brotli's")
    (tmp_path / "dist" / "assets" / "app-1a2b.js.gz").write_bytes(gzip.compress(b"let x = 1;" * 500))
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "dist" / "link.txt").symlink_to(tmp_path / "secret.txt")
    return tmp_path / "dist"


async def test_assets_are_kept_for_ever_and_the_page_is_asked_for_each_time(dist: Path) -> None:
    async with HttpApp(dist=dist).anonymous() as client:
        asset = await client.get("/assets/app-1a2b.js", headers={"accept-encoding": "gzip"})
        page = await client.get("/", headers=BROWSER)
        again = await client.get("/", headers={"if-none-match": page.headers["etag"]})

    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert asset.headers["content-encoding"] == "gzip"
    assert asset.headers["content-type"].startswith("text/javascript")
    assert asset.text == "let x = 1;" * 500
    assert page.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")


async def test_the_best_encoding_beside_the_file_is_sent(dist: Path) -> None:
    async with (
        HttpApp(dist=dist).anonymous() as client,
        client.stream("GET", "/assets/app-1a2b.js", headers={"accept-encoding": "gzip, br"}) as answer,
    ):
        content = b"".join([chunk async for chunk in answer.aiter_raw()])

    assert answer.headers["content-encoding"] == "br"
    assert content == b"brotli's"


async def test_the_app_s_own_paths_begin_with_the_page_and_missing_files_do_not(dist: Path) -> None:
    async with HttpApp(dist=dist).anonymous() as client:
        deep = await client.get("/c/conv_1", headers=BROWSER)
        missing = await client.get("/assets/gone.js", headers=BROWSER)
        script = await client.get("/gone.js", headers={"accept": "*/*"})
        posted = await client.post("/c/conv_1")

    assert "<title>Triplane</title>" in deep.text
    assert (missing.status_code, script.status_code, posted.status_code) == (404, 404, 405)


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/assets/../../secret.txt", "/..%2fsecret.txt", "/link.txt",
             "/%2e%2e/secret.txt", "//etc/passwd", "/..\\secret.txt", "/%00"]
)  # fmt: skip
async def test_nothing_outside_the_built_app_can_be_read(dist: Path, path: str) -> None:
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    await call(HttpApp(dist=dist).build(), httpx.URL("http://x" + path).path, received)
    await call(HttpApp(dist=dist).build(), path, received)

    while not received.empty():
        assert b"secret" not in (await received.get()).get("body", b"")


async def test_an_unbuilt_page_says_what_is_missing(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers=BROWSER)

    assert answer.status_code == 503
    for words in ("Node.js 20", "make web", "triplane chat", "/v1"):
        assert words in answer.text
