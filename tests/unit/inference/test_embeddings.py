"""Embeddings through the gateway: what reaches an engine, what comes from memory, and what is billed."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instant_loop import run_instantly, settle
from scripted_engines import MODEL, ScriptedEngine, ask
from triplane.domain.completion import Flow
from triplane.domain.embeddings import (
    Embedded,
    EmbeddingInput,
    EmbeddingRequest,
    Vector,
    numbers_of,
    vector_of,
)
from triplane.domain.errors import (
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    ModelNotFound,
    TriplaneError,
)
from triplane.domain.events import Usage
from triplane.domain.money import EngineCall
from triplane.inference.catalogue import CatalogueError, parse_catalogue
from triplane.inference.embedding import shared_out
from triplane.inference.embedding_cache import MemoryEmbeddings
from triplane.inference.gateway import Gateway
from triplane.inference.observer import SilentObserver

EMBEDS = {
    "engine": "vllm",
    "urls": ["http://one"],
    "context_length": 1000,
    "abilities": ["embeddings"],
    "price": {"input": 1},
}


class Embedder(ScriptedEngine):
    """Gives each input its length as a vector, and counts a token for each character. Fails when told to."""

    def __init__(self, *failures: TriplaneError | None) -> None:
        super().__init__()
        self.asked: list[list[EmbeddingInput]] = []
        self.failures = list(failures)

    async def embed(self, request: EmbeddingRequest, headers: Mapping[str, str]) -> Embedded:
        self.asked.append(request.inputs)
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        sizes = [len(each) for each in request.inputs]
        return Embedded(
            vectors=[vector_of([float(size)]) for size in sizes], usage=Usage(prompt_tokens=sum(sizes))
        )


class LookUps(SilentObserver):
    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def embeddings_looked_up(self, model: str, *, hits: int, misses: int) -> None:
        self.told.append((hits, misses))


def gateway_over(*engines: ScriptedEngine, observer: LookUps | None = None, **route: Any) -> Gateway:
    """One route for each engine, all of one model."""
    names = [f"route{number}" for number in range(len(engines))]
    tables = {name: {**EMBEDS, "model": "weights", **route} for name in names}
    catalogue = parse_catalogue({"routes": tables, "models": {MODEL: {"routes": names}}})
    return Gateway(
        catalogue,
        lambda name, _route, _url: engines[names.index(name)],
        observer=observer,
        embeddings=MemoryEmbeddings(),
    )


def texts(*inputs: EmbeddingInput, tenant: str = "t", **fields: Any) -> EmbeddingRequest:
    known = {"request_id": "req_test", "model": MODEL, "flow": Flow(tenant=tenant, user="u")}
    return EmbeddingRequest(inputs=list(inputs), **{**known, **fields})


async def embed(gateway: Gateway, request: EmbeddingRequest) -> tuple[list[Vector], list[EngineCall], Usage]:
    async with aclosing(gateway.embed(request)) as embedding:
        vectors = await embedding.vectors()
    return vectors, embedding.calls, embedding.usage


def lengths(vectors: list[Vector]) -> list[float]:
    return [numbers_of(vector)[0] for vector in vectors]


def test_only_inputs_that_are_not_known_reach_an_engine_and_order_is_kept() -> None:
    async def play() -> None:
        engine, observer = Embedder(), LookUps()
        gateway = gateway_over(engine, observer=observer)
        await embed(gateway, texts("aa", "bbb"))

        vectors, calls, usage = await embed(gateway, texts("c", "bbb", "dddd", "aa"))

        assert lengths(vectors) == [1, 3, 4, 2]
        assert engine.asked == [["aa", "bbb"], ["c", "dddd"]]
        assert [call.usage.prompt_tokens for call in calls] == [5]
        assert calls[0].cost == 5_000
        assert (usage.prompt_tokens, usage.cached_tokens) == (10, 5)
        assert observer.told == [(0, 2), (2, 2)]

    run_instantly(play())


def test_what_is_wholly_known_calls_no_engine_and_costs_nothing() -> None:
    async def play() -> None:
        gateway = gateway_over(engine := Embedder())
        await embed(gateway, texts("aa"))
        vectors, calls, usage = await embed(gateway, texts("aa"))
        assert (lengths(vectors), calls, len(engine.asked)) == ([2], [], 1)
        assert usage == Usage(prompt_tokens=2, cached_tokens=2)

    run_instantly(play())


@pytest.mark.parametrize(
    "other",
    [texts("aa", tenant="another"), texts("aa", dimensions=1), texts([97, 97])],
    ids=["another tenant", "other dimensions", "token ids"],
)
def test_what_has_another_vector_or_another_owner_is_asked_for_again(other: EmbeddingRequest) -> None:
    async def play() -> None:
        gateway = gateway_over(engine := Embedder())
        await embed(gateway, texts("aa"))
        await embed(gateway, other)
        assert len(engine.asked) == 2

    run_instantly(play())


def test_a_route_may_do_without_the_cache() -> None:
    async def play() -> None:
        gateway = gateway_over(engine := Embedder(), caches_embeddings=False)
        await embed(gateway, texts("aa"))
        await embed(gateway, texts("aa"))
        assert len(engine.asked) == 2

    run_instantly(play())


def test_more_inputs_than_a_call_takes_are_split_and_each_call_is_billed() -> None:
    async def play() -> None:
        gateway = gateway_over(engine := Embedder(), max_inputs=2)
        vectors, calls, usage = await embed(gateway, texts("a", "bb", "ccc", "dddd", "eeeee"))
        assert lengths(vectors) == [1, 2, 3, 4, 5]
        assert engine.asked == [["a", "bb"], ["ccc", "dddd"], ["eeeee"]]
        assert [call.attempt for call in calls] == [1, 2, 3]
        assert usage.prompt_tokens == 15

    run_instantly(play())


def test_an_input_that_comes_twice_is_computed_once() -> None:
    async def play() -> None:
        gateway = gateway_over(engine := Embedder())
        vectors, _, _ = await embed(gateway, texts("aa", "b", "aa"))
        assert (lengths(vectors), engine.asked) == ([2, 1, 2], [["aa", "b"]])

    run_instantly(play())


def test_a_failed_call_is_made_again_then_the_next_route_is_asked() -> None:
    async def play() -> None:
        down = EngineUnavailable("down")
        first, second = Embedder(down, down), Embedder()
        gateway = gateway_over(first, second, retries=1)
        _, calls, _ = await embed(gateway, texts("aa"))
        assert [(call.route, call.usage.prompt_tokens) for call in calls] == [
            ("route0", 0),
            ("route0", 0),
            ("route1", 2),
        ]

    run_instantly(play())


def test_what_was_computed_before_a_failure_is_billed_and_remembered() -> None:
    async def play() -> None:
        gateway = gateway_over(engine := Embedder(None, EngineFailed("broke")), max_inputs=1, retries=0)
        embedding = gateway.embed(texts("aa", "b"))
        async with aclosing(embedding):
            with pytest.raises(EngineFailed):
                await embedding.vectors()
        assert [call.usage.prompt_tokens for call in embedding.calls] == [2, 0]

        await embed(gateway, texts("aa", "b"))
        assert engine.asked[2:] == [["b"]]

    run_instantly(play())


def test_a_model_that_only_embeds_refuses_to_chat_and_the_reverse() -> None:
    async def play() -> None:
        with pytest.raises(InvalidRequest, match="doesn't chat"):
            await gateway_over(Embedder()).complete(ask())
        with pytest.raises(InvalidRequest, match="doesn't chat"):
            await gateway_over(Embedder()).count_tokens(MODEL, ask().messages)
        with pytest.raises(InvalidRequest, match="no embeddings"):
            gateway_over(Embedder(), abilities=["tools"]).embed(texts("aa"))
        with pytest.raises(ModelNotFound):
            gateway_over(Embedder()).embed(texts("aa", model="none"))
        card = await gateway_over(Embedder()).model(MODEL)
        assert (card.supports_embeddings, card.supports_chat) == (True, False)

    run_instantly(play())


def test_a_slow_engine_is_given_up_in_time() -> None:
    class Hanging(Embedder):
        async def embed(self, request: EmbeddingRequest, headers: Mapping[str, str]) -> Embedded:
            await asyncio.get_running_loop().create_future()
            raise AssertionError("Nobody has given it up.")

    async def play() -> None:
        gateway = gateway_over(Hanging(), retries=0)
        with pytest.raises(TriplaneError, match="in time"):
            await embed(gateway, texts("aa"))

    run_instantly(play())


def test_one_who_hangs_up_gives_the_slot_back() -> None:
    class Waiting(Embedder):
        async def embed(self, request: EmbeddingRequest, headers: Mapping[str, str]) -> Embedded:
            if request.inputs == ["for ever"]:
                await asyncio.get_running_loop().create_future()
            return await super().embed(request, headers)

    async def play() -> None:
        gateway = gateway_over(Waiting(), slots=1)
        asking = asyncio.create_task(embed(gateway, texts("for ever")))
        await settle()
        assert [route.held for route in gateway.fleet()] == [1]
        asking.cancel()
        await asyncio.wait((asking,))

        vectors, _, _ = await embed(gateway, texts("aa"))
        assert lengths(vectors) == [2]
        assert [route.held + route.replicas[0].in_flight for route in gateway.fleet()] == [0]

    run_instantly(play())


def test_engines_that_give_vectors_of_several_lengths_are_not_one_model() -> None:
    class Changing(Embedder):
        async def embed(self, request: EmbeddingRequest, headers: Mapping[str, str]) -> Embedded:
            self.asked.append(request.inputs)
            return Embedded(vectors=[vector_of([0.5] * len(self.asked))], usage=Usage(prompt_tokens=1))

    async def play() -> None:
        with pytest.raises(EngineFailed, match="several lengths"):
            await embed(gateway_over(Changing(), max_inputs=1), texts("a", "b"))

    run_instantly(play())


def test_anthropic_has_no_embeddings_to_offer() -> None:
    route = {**EMBEDS, "engine": "anthropic_http"}
    with pytest.raises(CatalogueError, match="has no embeddings"):
        parse_catalogue({"routes": {"r": route}, "models": {"m": {"routes": ["r"]}}})


async def test_the_memory_of_embeddings_stays_within_its_size() -> None:
    store = MemoryEmbeddings(most_bytes=100)
    await store.put("t", {place: bytes(40) for place in range(3)}, 60)
    found = await store.get("t", [0, 1, 2])
    assert [each is not None for each in found] == [False, True, True]


@given(
    st.integers(0, 10**6), st.lists(st.text(max_size=30) | st.lists(st.integers(), min_size=1), min_size=1)
)
def test_the_shares_of_a_calls_tokens_add_up(tokens: int, inputs: list[EmbeddingInput]) -> None:
    shares = shared_out(tokens, inputs)
    assert sum(shares) == tokens
    assert len(shares) == len(inputs)
    assert min(shares) >= 0


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_a_vector_keeps_its_numbers(numbers: list[float]) -> None:
    assert numbers_of(vector_of(numbers)) == numbers
