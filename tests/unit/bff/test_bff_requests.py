"""Bodies that are wrong as a whole, and paths, methods and headers that are."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http_app import ADDRESS, MAX_BODY, HttpApp
from triplane.domain.errors import InvalidRequest
from triplane.wire.strict_json import decode_strictly

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"{} x", "not valid JSON"),
        (b'{"title": NaN}', "not valid JSON"),
        (b'{"title": "\xff"}', "UTF-8"),
        (b"\xff\xfe{\x00}\x00", "not valid JSON"),
        (b'{"title": "\\ud800"}', "surrogate"),
        (b'{"title": "\\udc00\\ud800"}', "surrogate"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b'"text"', "Expected `object`"),
    ],
)
async def test_a_body_that_is_no_json_object_says_so(
    client: httpx.AsyncClient, body: bytes, says: str
) -> None:
    made = (await client.post("/v1/conversations", json={})).json()["id"]

    answer = await client.post(f"/v1/conversations/{made}", content=body, headers=JSON)

    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


async def test_half_a_surrogate_pair_is_named(client: httpx.AsyncClient) -> None:
    body = b'{"items": [{"role": "user", "content": "x\\udfffy"}]}'

    answer = await client.post("/v1/conversations", content=body, headers=JSON)

    assert answer.json()["error"]["param"] == "items[0].content"


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert decode_strictly(rb'"C:\\u0000"', str) == r"C:\u0000"


def test_deep_nesting_is_refused_before_anything_must_write_it_again() -> None:
    with pytest.raises(InvalidRequest, match="nested"):
        decode_strictly(b"[" * 100 + b"]" * 100, Any)
    with pytest.raises(InvalidRequest, match="nested"):
        decode_strictly(b"[" * 60_000, Any)

    assert decode_strictly(b"[" + b"[[]]," * 500 + b"0]", Any)[0] == [[]]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_of_another_type_is_refused(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/v1/conversations", content=b"{}", headers={"content-type": content_type})

    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_is_taken_however_it_is_written(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/v1/conversations", content=b"{}", headers={"content-type": content_type})

    assert answer.status_code == 200


async def test_a_body_over_the_limit_is_refused_by_its_announced_length(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/conversations", content=b" " * (MAX_BODY + 1), headers=JSON)

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


async def test_a_body_without_a_length_is_read_only_up_to_the_limit(client: httpx.AsyncClient) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += MAX_BODY // 4
            yield b" " * (MAX_BODY // 4)

    answer = await client.post("/v1/conversations", content=chunks(), headers=JSON)

    assert answer.status_code == 413
    assert sent <= 2 * MAX_BODY


async def test_a_stranger_is_refused_before_the_body_is_looked_at(http_app: HttpApp) -> None:
    async with http_app.anonymous() as client:
        answer = await client.post("/v1/conversations", content=b"{", headers=JSON)

    assert answer.status_code == 401


async def test_an_unknown_path_of_the_api_has_the_api_s_error(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/nothing", headers={"accept": "text/html"})

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"


async def test_an_unknown_method_names_the_allowed_ones(client: httpx.AsyncClient) -> None:
    answer = await client.put("/v1/models", json={})

    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-1.2:3", True), ("", False), ("a b", False), ("x" * 129, False), ("a\tb", False)]
)
async def test_every_answer_has_a_request_id(client: httpx.AsyncClient, sent: str, kept: bool) -> None:
    answer = await client.get("/v1/models", headers={"x-request-id": sent})

    assert (answer.headers["x-request-id"] == sent) is kept
    assert kept or answer.headers["x-request-id"].startswith("req_")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
near_bodies = st.dictionaries(
    st.sampled_from(["title", "metadata", "items", "role", "x"]), json_values, max_size=4
)


def test_no_json_body_makes_the_server_fail() -> None:
    with asyncio.Runner() as runner:
        http_app = HttpApp()
        headers = {**JSON, "authorization": f"Bearer {runner.run(http_app.new_key())}"}
        app = http_app.build()

        async def post(body: object) -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ADDRESS) as client:
                return await client.post("/v1/conversations", content=json.dumps(body), headers=headers)

        @settings(max_examples=150, deadline=None, database=None)
        @given(body=near_bodies | json_values)
        def holds(body: object) -> None:
            answer = runner.run(post(body))
            assert answer.status_code in (200, 400)
            assert answer.status_code == 200 or answer.json()["error"]["message"]

        holds()
