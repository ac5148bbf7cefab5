"""Limits as a client meets them: headers, 429, retries that cost nothing, and no way around."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import redis.asyncio
from prometheus_client.parser import text_string_to_metric_families

from limit_examples import per_user
from served_app import Served, serving_bff
from triplane.adapters.postgres.pool import Database
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.errors import EngineUnavailable
from triplane.domain.events import Delta, Started
from waiting import until

HEADERS = [f"x-ratelimit-{name}-{kind}" for kind in ("requests", "tokens") for name in ("limit", "remaining")]
PATH = "/v1/chat/completions"


@pytest.fixture
async def served(
    database: Database, redis_client: redis.asyncio.Redis, redis_pipeline: RedisPipeline
) -> AsyncIterator[Served]:
    """Five requests, 10,000 tokens a minute and two at once for each user."""
    policy = per_user(requests=5, tokens=10_000, concurrent=2)
    async with serving_bff(database, redis_client, redis_pipeline, policy) as served:
        yield served


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with served.client() as client:
        yield client


def ask(conversation: str | None = None, **fields: Any) -> dict[str, Any]:
    body = {"model": "model", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100, **fields}
    return body | ({"conversation_id": conversation} if conversation else {})


async def new_conversation(http: httpx.AsyncClient) -> str:
    return str((await http.post("/v1/conversations", json={})).json()["id"])


def standing(response: httpx.Response) -> list[int]:
    """Limit and remaining of requests, then of tokens."""
    return [int(response.headers[name]) for name in HEADERS]


async def exhaust(http: httpx.AsyncClient, requests: int = 5) -> None:
    for _ in range(requests):
        assert (await http.post(PATH, json=ask())).status_code == 200


@pytest.mark.parametrize(
    ("is_turn", "fields"),
    [
        (False, {}),
        (False, {"stream": True}),
        (True, {}),
        (True, {"stream": True}),
        (True, {"background": True}),
    ],
)
async def test_every_answer_says_how_the_caller_stands(
    http: httpx.AsyncClient, is_turn: bool, fields: dict[str, Any]
) -> None:
    conversation = await new_conversation(http) if is_turn else None
    first = await http.post(PATH, json=ask(conversation, **fields))
    assert first.status_code in (200, 202)
    limit, remaining, tokens, tokens_left = standing(first)
    assert (limit, remaining, tokens) == (5, 4, 10_000)
    assert 9_850 < tokens_left < 9_900
    assert first.headers["x-ratelimit-reset-requests"] == "12s"
    assert first.headers["x-ratelimit-reset-tokens"].endswith("ms")


async def test_what_was_not_used_is_back_with_the_next_answer(http: httpx.AsyncClient) -> None:
    await http.post(PATH, json=ask(max_tokens=9000))
    second = await http.post(PATH, json=ask(max_tokens=9000))
    assert second.status_code == 200
    assert 900 < standing(second)[3] < 1000


async def test_over_the_limit_is_429_with_a_time_to_wait(served: Served, http: httpx.AsyncClient) -> None:
    await exhaust(http)
    for body in (ask(), ask(stream=True), ask(await new_conversation(http))):
        refused = await http.post(PATH, json=body)
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 12
        assert standing(refused)[:2] == [5, 0]
    assert counted(served, "triplane_requests_limited_total") == {("user", "requests"): 3}


def counted(served: Served, name: str) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(served.metrics.exposition().decode())
    return {
        (sample.labels["scope"], sample.labels["kind"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


async def test_a_refused_turn_leaves_nothing_and_its_key_unused(
    served: Served, http: httpx.AsyncClient
) -> None:
    conversation = await new_conversation(http)
    await exhaust(http)
    body = ask(conversation, request_id="mine")
    assert (await http.post(PATH, json=body)).status_code == 429
    assert (await http.get(f"/v1/conversations/{conversation}/messages")).json()["data"] == []

    served.limits.policy = per_user()
    answered = await http.post(PATH, json=body)
    assert answered.status_code == 200
    assert len((await http.get(f"/v1/conversations/{conversation}/messages")).json()["data"]) == 2


async def test_a_retry_of_a_known_request_costs_nothing_even_when_nothing_is_left(
    http: httpx.AsyncClient,
) -> None:
    body = ask(await new_conversation(http), request_id="once")
    first = await http.post(PATH, json=body)
    again = await http.post(PATH, json=body)
    assert again.json() == first.json()
    assert standing(await http.post(PATH, json=ask()))[1] == 3

    await exhaust(http, 3)
    assert (await http.post(PATH, json=ask())).status_code == 429
    at_the_limit = await http.post(PATH, json=body)
    assert (at_the_limit.status_code, at_the_limit.json()) == (200, first.json())


async def test_continue_and_regenerate_are_limited_as_any_turn(
    served: Served, http: httpx.AsyncClient
) -> None:
    conversation = await new_conversation(http)
    served.gateway.events = [Started(engine="scripted", model="model"), Delta(text="Hel")]
    broken = await http.post(PATH, json=ask(conversation))
    assert broken.status_code == 502
    (turn_id,) = {
        row["turn_id"]
        for row in (await http.get(f"/v1/conversations/{conversation}/messages")).json()["data"]
    }
    goes_on = await http.post(f"/v1/turns/{turn_id}/continue", json={"stream": True})
    assert standing(goes_on)[:2] == [5, 3]
    again = await http.post(f"/v1/turns/{turn_id}/regenerate", json={"stream": True})
    assert standing(again)[:2] == [5, 2]
    await exhaust_any(http)
    for action in ("continue", "regenerate"):
        refused = await http.post(f"/v1/turns/{turn_id}/{action}", json={})
        assert refused.status_code == 429
        assert standing(refused)[:2] == [5, 0]


async def exhaust_any(http: httpx.AsyncClient) -> None:
    while (await http.post(PATH, json=ask())).status_code != 429:
        pass


async def test_what_no_engine_took_is_given_back(served: Served, http: httpx.AsyncClient) -> None:
    conversation = await new_conversation(http)
    served.gateway.refusal = EngineUnavailable("It is down.")
    for body in (ask(), ask(stream=True), ask(conversation), ask(conversation, model="unknown")):
        assert (await http.post(PATH, json=body)).status_code in (404, 503)
    served.gateway.refusal = None
    assert standing(await http.post(PATH, json=ask()))[1] == 4


async def test_only_so_many_run_at_once_and_a_slot_is_free_when_one_ends(
    served: Served, http: httpx.AsyncClient
) -> None:
    served.gateway.waits[2] = asyncio.Event()
    conversation = await new_conversation(http)
    running = [
        asyncio.create_task(http.post(PATH, json=body)) for body in (ask(stream=True), ask(conversation))
    ]
    async with asyncio.timeout(10):
        for _ in running:
            await served.gateway.arrivals.acquire()
    refused = await http.post(PATH, json=ask())
    assert refused.status_code == 429
    assert "requests at once" in refused.json()["error"]["message"]
    served.gateway.waits[2].set()
    assert [(await each).status_code for each in running] == [200, 200]
    assert (await http.post(PATH, json=ask())).status_code == 200
    assert counted(served, "triplane_requests_limited_total") == {("user", "concurrent"): 1}


async def test_hanging_up_on_a_stateless_answer_frees_its_slot(
    served: Served, http: httpx.AsyncClient
) -> None:
    served.gateway.waits[2] = asyncio.Event()
    for _ in range(2):
        async with http.stream("POST", PATH, json=ask(stream=True)) as response:
            async for line in response.aiter_lines():
                if "Hello" in line:
                    break
    served.gateway.waits.clear()

    async def is_free() -> bool:
        return (await http.post(PATH, json=ask())).status_code != 429

    await until(is_free)


async def test_there_is_no_way_around_a_users_limit(served: Served, http: httpx.AsyncClient) -> None:
    """Other keys of the user, other spellings of the header, a session, and what proxies may claim."""
    await exhaust(http)
    key, other = served.key, await served.http_app.new_key()
    for headers in (
        {"AUTHORIZATION": f"Bearer {key}"},
        {"authorization": f"bEaReR   {key}"},
        {"authorization": f"Bearer {other}"},
        {"x-api-key": key},
        {"x-api-key": other},
        {"authorization": f"Bearer {key}", "x-forwarded-for": "203.0.113.7", "x-real-ip": "203.0.113.7"},
        {"authorization": f"Bearer {key}", "openai-organization": "org_other", "openai-project": "other"},
        {"authorization": f"Bearer {key}", "x-api-key": "tp-other", "api-key": "tp-other"},
        await session_of(served),
    ):
        async with httpx.AsyncClient(base_url=served.url, headers=headers) as client:
            for body in (ask(), ask(user="somebody-else")):
                assert (await client.post(PATH, json=body)).status_code == 429, headers
    for headers in ({"api-key": key}, {"authorization": f"Basic {key}"}):
        async with httpx.AsyncClient(base_url=served.url, headers=headers) as client:
            assert (await client.post(PATH, json=ask())).status_code == 401, headers


async def session_of(served: Served) -> dict[str, str]:
    """The headers of the same user's signed-in browser."""
    link = await served.http_app.sessions.make_sign_in_link()
    async with httpx.AsyncClient(base_url=served.url) as browser:
        await browser.get("/sign-in", params={"token": link.token})
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    return {"cookie": cookie, "sec-fetch-site": "same-origin"}


async def test_a_request_that_can_never_fit_is_a_400_that_says_why(http: httpx.AsyncClient) -> None:
    refused = await http.post(PATH, json=ask(max_tokens=20_000))
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("request_over_limit", "max_tokens")


async def test_the_gateway_is_told_whose_request_it_is(served: Served, http: httpx.AsyncClient) -> None:
    conversation = await new_conversation(http)
    await http.post(PATH, json=ask(conversation))
    await http.post(PATH, json=ask())
    longer = [*ask()["messages"], {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "?"}]
    await http.post(PATH, json=ask(messages=longer))
    await http.post(PATH, json=ask(messages=[{"role": "user", "content": "Another beginning"}]))
    turn, first, goes_on, other = [request.flow for request in served.gateway.requests]
    who = await served.http_app.administrator()
    for flow in (turn, first, goes_on, other):
        assert (flow.tenant, flow.user, flow.plan) == (who.tenant_id, who.user_id, "default")
        assert flow.api_key
        assert flow.api_key.startswith("key_")
    assert turn.affinity == conversation
    assert first.affinity == goes_on.affinity
    assert first.affinity != other.affinity
    assert json.dumps(first.affinity) not in ("", "null")


async def test_openais_client_sees_a_rate_limit_error_and_its_headers(served: Served) -> None:
    from openai import AsyncOpenAI, RateLimitError  # here, because importing it takes long

    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=served.key, max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "Hi"}]
        fields: dict[str, Any] = {"model": "model", "messages": messages, "max_tokens": 10}
        for left in range(4, -1, -1):
            raw = await client.chat.completions.with_raw_response.create(**fields)
            assert raw.headers["x-ratelimit-remaining-requests"] == str(left)
            assert raw.parse().choices[0].message.content == "Hello"
        streamed: list[dict[str, Any]] = [{}, {"stream": True}]
        for extra in streamed:
            with pytest.raises(RateLimitError) as refused:
                await client.chat.completions.create(**fields, **extra)
            assert refused.value.code == "rate_limit_exceeded"
            assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
            assert int(refused.value.response.headers["retry-after"]) >= 1
