"""What no honest client sends: each is refused with its status, and the gateway goes on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy_fixture import MAX_BODY_BYTES, ServedProxy, is_well, post, question, say, serving_proxy
from triplane.inference.service import connection, server
from waiting import until


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[ServedProxy]:
    async with serving_proxy(tmp_path) as served:
        yield served


AUTH = "authorization: Bearer {key}\r\n"
JSON = "content-type: application/json\r\n"
PATH = "/v1/chat/completions"

REFUSED: dict[str, tuple[int, str]] = {
    "no HTTP": (400, "hello\r\n\r\n"),
    "a bad request line": (400, "GET\r\n\r\n"),
    "another version": (400, "GET /livez HTTP/3.0\r\nhost: a\r\n\r\n"),
    "no host": (400, "GET /livez HTTP/1.1\r\n\r\n"),
    "two hosts": (400, "GET /livez HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    "both lengths": (
        400,
        f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
    ),
    "two lengths": (
        400,
        f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    ),
    "a bad length": (400, f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: -3\r\n\r\n"),
    "a bad chunk": (400, f"POST {PATH} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"),
    "a huge header": (431, f"GET /livez HTTP/1.1\r\nhost: a\r\nx-much: {'a' * 40_000}\r\n\r\n"),
    "endless headers": (431, "GET /livez HTTP/1.1\r\nhost: a\r\n" + "x-more: a\r\n" * 4_000),
    "a large body": (413, f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: {MAX_BODY_BYTES + 1}\r\n\r\n"),
    "a large body in chunks": (
        413,
        f"POST {PATH} HTTP/1.1\r\nhost: a\r\n{JSON}{AUTH}transfer-encoding: chunked\r\n\r\n"
        + f"8000\r\n{'a' * 0x8000}\r\n" * 4,
    ),
    "another type": (
        415,
        f"POST {PATH} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{AUTH}content-length: 2\r\n\r\n{{}}",
    ),
    "no JSON": (
        400,
        f"POST {PATH} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{JSON}{AUTH}content-length: 2\r\n\r\n{{]",
    ),
    "no key": (
        401,
        f"POST {PATH} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{JSON}\r\n",
    ),
    "an unknown path": (404, "GET /nothing HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
    "another method": (405, f"GET {PATH} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_served_is_refused_with_its_status(proxy: ServedProxy, name: str) -> None:
    status, request = REFUSED[name]
    said = await say(proxy, request.replace("{key}", proxy.key).encode())

    assert said.split(b"\r\n")[0].startswith(b"HTTP/1.1 %d " % status), said[:200]
    assert b'"error"' in said
    assert (b"allow: POST" in said) == (status == 405)
    assert await is_well(proxy)


async def test_another_protocol_is_not_switched_to(proxy: ServedProxy) -> None:
    said = await say(
        proxy, b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    assert said.startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_is_too_slow_with_its_head_is_told(
    proxy: ServedProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.1)
    monkeypatch.setattr(server, "_LOOK_EVERY_S", 0.05)

    assert (await say(proxy, b"GET /livez HTTP/1.1\r\nhost:")).startswith(b"HTTP/1.1 408 ")


async def test_what_is_sent_before_an_answer_is_not_served_and_the_connection_closes(
    proxy: ServedProxy,
) -> None:
    one = post(proxy, question(max_tokens=3))
    said = await say(proxy, one + one)

    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 200 ")
    assert proxy.fleet.requests_at(0) == 1


async def test_no_bytes_whatever_harm_the_server(proxy: ServedProxy) -> None:
    valid = post(proxy, question(max_tokens=3, stream=True)).replace(
        b"host: test", b"host: test\r\nconnection: close"
    )
    cases: list[tuple[int, bytes]] = []

    @settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(at=st.integers(0, len(valid)), piece=st.binary(max_size=12))
    def collect(at: int, piece: bytes) -> None:
        cases.append((at, piece))

    collect()
    for at, piece in cases:
        await say(proxy, valid[:at] + piece + valid[at + len(piece) :], then_ends=True)

    await until(lambda: proxy.server.open_connections == 0)
    assert proxy.running == 0
    assert await is_well(proxy)
