"""Whether a replica works: a tiny request to it alone, past queues, retries and breakers."""

import asyncio
from contextlib import aclosing, suppress
from time import perf_counter

import msgspec

from triplane.domain.completion import CompletionRequest, Message, Sampling
from triplane.domain.embeddings import EmbeddingRequest
from triplane.domain.errors import EngineFailed, TriplaneError
from triplane.domain.events import Delta, Finished, ToolCallDelta
from triplane.domain.ids import new_id
from triplane.inference.catalogue import Catalogue, CatalogueError, Route
from triplane.inference.engines.engine import EmbeddingEngine, Engine, EngineStream, PrefillEngine
from triplane.inference.fleet import EngineBuilder

PATIENCE_S = 60.0
CLOSE_S = 5.0
TOKENS = 16


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `problem` None: it works. `ttft_s` counts from the request, connecting included; of a
    replica that reads prompts for others it is the time that this took."""

    route: str
    replica: str
    problem: str | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    only_reads: bool = False


def replicas_of(catalogue: Catalogue, model: str | None = None) -> list[tuple[str, str]]:
    """The routes and addresses that a model is served by; all of the catalogue's, if None."""
    names = dict.fromkeys(catalogue.models[model].route_names()) if model else catalogue.routes
    return [
        (name, url)
        for name in names
        for url in (*catalogue.routes[name].urls, *catalogue.routes[name].prefill_urls)
    ]


async def try_replica(
    catalogue: Catalogue, name: str, url: str, build: EngineBuilder, patience_s: float = PATIENCE_S
) -> Trial:
    """Ask the replica of this route at this address for a few tokens. Whatever is wrong is in the trial."""
    route = catalogue.routes[name]
    try:
        engine = build(name, route, url)
    except CatalogueError as error:
        return Trial(route=name, replica=url, problem=f"{error}.")
    only_reads = url in route.prefill_urls
    try:
        async with asyncio.timeout(patience_s):
            trial = await _tried(name, route, engine, only_reads=only_reads)
    except TimeoutError:
        problem = f"It took the request, and didn't finish {TOKENS} tokens within {patience_s:g} s."
        trial = Trial(route=name, replica=engine.name, problem=problem, only_reads=only_reads)
    except TriplaneError as error:
        trial = Trial(route=name, replica=engine.name, problem=error.message, only_reads=only_reads)
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await engine.close()
    return trial


async def _tried(name: str, route: Route, engine: Engine, *, only_reads: bool) -> Trial:
    if only_reads:
        return await _read(name, engine)
    return await (_answer(name, engine) if route.chats else _embed(name, engine))


async def _embed(name: str, engine: Engine) -> Trial:
    if not isinstance(engine, EmbeddingEngine):
        raise EngineFailed("It can't give embeddings.")
    began = perf_counter()
    await engine.embed(
        EmbeddingRequest(request_id=new_id("req"), model=engine.card.id, inputs=["Hello."]), {}
    )
    return Trial(route=name, replica=engine.name, ttft_s=perf_counter() - began)


def _request(engine: Engine) -> CompletionRequest:
    return CompletionRequest(
        request_id=new_id("req"),
        model=engine.card.id,
        messages=[Message(role="user", content="Say hello.")],
        sampling=Sampling(max_tokens=TOKENS),
    )


async def _answer(name: str, engine: Engine) -> Trial:
    began = perf_counter()
    stream = await engine.start(_request(engine), {})
    async with aclosing(stream):
        first, last = await _times(stream)
    tokens, took_s = stream.usage.completion_tokens, last - first
    return Trial(
        route=name,
        replica=engine.name,
        ttft_s=first - began,
        tokens_per_s=(tokens - 1) / took_s if tokens > 1 and took_s > 0 else None,
    )


async def _times(stream: EngineStream) -> tuple[float, float]:
    """When the first and the last piece of the answer came. Raises EngineFailed: there was none."""
    first = last = 0.0
    while (events := await stream.read()) is not None:
        if any(isinstance(event, Delta | ToolCallDelta) for event in events):
            last = perf_counter()
            first = first or last
        if any(isinstance(event, Finished) for event in events):
            break
    else:
        raise EngineFailed("Its answer ended without saying so.")
    if not first:
        raise EngineFailed("Its answer is empty.")
    return first, last


async def _read(name: str, engine: Engine) -> Trial:
    if not isinstance(engine, PrefillEngine):
        raise EngineFailed("It can't hand a KV cache on.")
    began = perf_counter()
    await engine.prefill(_request(engine), {})
    return Trial(route=name, replica=engine.name, ttft_s=perf_counter() - began, only_reads=True)
