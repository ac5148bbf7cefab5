"""Embeddings as clients meet them: OpenAI's client at both faces, over gRPC, and the bill of the product."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import openai
import pytest
import redis.asyncio
from openai import AsyncOpenAI

from app_fixture import AppServer
from fleets import MODEL, Fleet, running_fleet
from fleets import ask as ask_fleet
from limit_examples import per_user
from proxy_fixture import ServedProxy, serving_proxy
from triplane.adapters.redis.embedding_cache import RedisEmbeddings
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.completion import Flow
from triplane.domain.embeddings import EmbeddingRequest
from triplane.domain.errors import EngineUnavailable, InvalidRequest, ModelNotFound
from triplane.inference.embedding_cache import EmbeddingCache, KnownVector, MemoryEmbeddings
from triplane.inference.gateway import Gateway
from triplane.inference.service.rpc.client import RemoteGateway
from triplane.inference.service.rpc.server import serving
from triplane.inference.simulated_engine.faults import Refuse

EMBEDS = {"abilities": ["embeddings"], "price": {"input": 2}}


def cosine(one: list[float], other: list[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))


def openai_at(proxy: ServedProxy) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=proxy.key, max_retries=0, timeout=20)


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[ServedProxy]:
    async with serving_proxy(tmp_path, {"pool": EMBEDS}) as served:
        yield served


async def test_openais_client_gets_vectors_in_both_encodings(proxy: ServedProxy) -> None:
    async with openai_at(proxy) as client:
        texts = ["the blue sea", "the sea is blue", "taxes rise"]
        in_base64 = await client.embeddings.create(model=MODEL, input=texts)
        in_floats = await client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
        short = await client.embeddings.create(model=MODEL, input="the blue sea", dimensions=8)

    vectors = [each.embedding for each in in_base64.data]
    assert vectors == [each.embedding for each in in_floats.data]
    assert [each.index for each in in_base64.data] == [0, 1, 2]
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2])
    assert len(short.data[0].embedding) == 8
    assert in_base64.usage.prompt_tokens == in_base64.usage.total_tokens == 9


async def test_token_ids_are_inputs_too(proxy: ServedProxy) -> None:
    async with openai_at(proxy) as client:
        one = await client.embeddings.create(model=MODEL, input=[1, 2, 3])
        two = await client.embeddings.create(model=MODEL, input=[[1, 2, 3], [4]])
    assert one.data[0].embedding == two.data[0].embedding
    assert (one.usage.prompt_tokens, two.usage.prompt_tokens) == (3, 4)


async def test_each_call_of_the_gateways_face_is_a_line_of_its_usage_log(proxy: ServedProxy) -> None:
    async with openai_at(proxy) as client:
        await client.embeddings.create(model=MODEL, input=["one two", "three"])
    [line] = await proxy.usage(1)
    assert (line.model, line.route, line.outcome, line.completion_tokens) == (MODEL, "pool", "complete", 0)
    assert line.cost == line.prompt_tokens * 2_000 > 0


@pytest.mark.parametrize("bad", [[], "", ["a", ""], ["a"] * 2049, [[]]])
async def test_inputs_out_of_bounds_are_refused_by_name(proxy: ServedProxy, bad: Any) -> None:
    async with openai_at(proxy) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.embeddings.create(model=MODEL, input=bad)
    assert refused.value.param == "input"
    assert proxy.fleet.requests_at(0) == 0


async def test_a_model_that_only_embeds_says_so_to_who_wants_to_chat(proxy: ServedProxy) -> None:
    async with openai_at(proxy) as client:
        with pytest.raises(openai.BadRequestError, match="doesn't chat"):
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])


async def test_a_limit_counts_embeddings(tmp_path: Path) -> None:
    policy, pool = per_user(tokens=100), {"pool": EMBEDS}
    async with serving_proxy(tmp_path, pool, policy=policy) as served, openai_at(served) as client:
        await client.embeddings.create(model=MODEL, input="word " * 70)
        with pytest.raises(openai.RateLimitError):
            await client.embeddings.create(model=MODEL, input="word " * 70)


def request_for(*texts: str, model: str = MODEL) -> EmbeddingRequest:
    return EmbeddingRequest(
        request_id="req_e", model=model, inputs=list(texts), flow=Flow(tenant="t", user="u")
    )


@pytest.fixture(params=["library", "grpc"])
async def way(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Fleet, Gateway | RemoteGateway]]:
    route = {**EMBEDS, "max_inputs": 2, "retries": 0}
    async with running_fleet({"pool": route}, embeddings=MemoryEmbeddings()) as fleet:
        if request.param == "library":
            yield fleet, fleet.gateway
            return
        async with serving(fleet.gateway, "127.0.0.1:0") as port:
            remote = RemoteGateway(f"127.0.0.1:{port}")
            yield fleet, remote
            await remote.close()


async def test_vectors_calls_and_usage_are_the_same_in_the_process_and_over_grpc(
    way: tuple[Fleet, Gateway | RemoteGateway],
) -> None:
    fleet, gateway = way
    async with aclosing(gateway.embed(request_for("one", "two words", "three"))) as first:
        vectors = await first.vectors()
    async with aclosing(gateway.embed(request_for("three", "four"))) as second:
        again = await second.vectors()

    assert again[0] == vectors[2]
    assert [(call.attempt, call.route) for call in first.calls] == [(1, "pool"), (2, "pool")]
    assert sum(call.usage.prompt_tokens for call in (*first.calls, *second.calls)) == (
        fleet.computed.prompt_tokens
    )
    assert second.usage.cached_tokens == 1


async def test_refusals_are_the_same_on_both_ways(way: tuple[Fleet, Gateway | RemoteGateway]) -> None:
    _, gateway = way
    with pytest.raises(ModelNotFound):
        await gateway.embed(request_for("one", model="none")).vectors()
    with pytest.raises(InvalidRequest, match="doesn't chat"):
        await gateway.complete(ask_fleet())
    card = await gateway.model(MODEL)
    assert (card.supports_embeddings, card.supports_chat) == (True, False)


async def test_redis_keeps_vectors_by_tenant_and_its_absence_is_an_empty_cache(
    redis_pipeline: RedisPipeline, redis_client: redis.asyncio.Redis
) -> None:
    cache = EmbeddingCache(RedisEmbeddings(redis_pipeline))
    digest, other = b"d" * 20, b"e" * 20
    await cache.keep("acme", {digest: KnownVector(b"\0\0\x80?", 7)})

    assert await cache.find("acme", [other, digest]) == [None, KnownVector(b"\0\0\x80?", 7)]
    assert await cache.find("another", [digest]) == [None]
    [key] = await redis_client.keys("embedding:*")
    assert 0 < await redis_client.ttl(key) <= 24 * 3600


async def test_the_product_embeds_with_the_embedded_engine_and_bills_what_was_computed(
    openai_client: AsyncOpenAI, app_server: AppServer
) -> None:
    text = "The tides of the product's own test."
    first = await openai_client.embeddings.create(model="smollm2", input=[text, "another one"])
    second = await openai_client.embeddings.with_raw_response.create(model="smollm2", input=[text, "a third"])
    again = second.parse()

    assert len(first.data[0].embedding) == 576
    assert again.data[0].embedding == first.data[0].embedding
    rows = await app_server.usage_rows(second.headers["x-request-id"])
    assert [(row["model"], row["attempt"], row["completion_tokens"]) for row in rows] == [("smollm2", 1, 0)]
    assert 0 < rows[0]["prompt_tokens"] < again.usage.prompt_tokens


async def test_the_embedded_engine_chats_and_embeds_at_once(openai_client: AsyncOpenAI) -> None:
    chat = openai_client.chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": "Count to ten."}], max_tokens=24
    )
    answer, embedded = await asyncio.gather(
        chat, openai_client.embeddings.create(model="smollm2", input=["a text " * 80, "short"])
    )
    assert answer.choices[0].message.content
    assert len(embedded.data) == 2


async def test_an_engine_that_is_down_is_told_as_such(proxy: ServedProxy) -> None:
    proxy.fleet.break_engine(0, Refuse(status=503))
    async with openai_at(proxy) as client:
        with pytest.raises(openai.InternalServerError) as refused:
            await client.embeddings.create(model=MODEL, input="one")
    assert refused.value.status_code == 503
    assert refused.value.code == EngineUnavailable.code
