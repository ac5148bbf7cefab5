"""An embedding that runs: what the cache knows, then engine calls for the rest, part by part.

The calls are those of `Attempts`, as for a completion: a fair slot, a replica, retries, the next route. All
routes of a model that embeds have to serve the same weights: vectors of two models can't be compared.
"""

from collections.abc import Sequence
from itertools import pairwise

from triplane.domain.embeddings import EmbeddingInput, EmbeddingRequest, Vector, size_of
from triplane.domain.errors import EngineFailed
from triplane.domain.events import Usage
from triplane.domain.money import EngineCall, usage_of
from triplane.inference.attempts import Attempts
from triplane.inference.catalogue import Route
from triplane.inference.embedding_cache import EmbeddingCache, KnownVector, dependencies, digest_of
from triplane.inference.fleet import Fleet
from triplane.inference.observer import GatewayObserver


class RunningEmbedding:
    """Ask for the `vectors` once, and `aclose` it in every case: `calls` are whole then."""

    def __init__(
        self,
        request: EmbeddingRequest,
        routes: Sequence[str],
        fleet: Fleet,
        observer: GatewayObserver,
        cache: EmbeddingCache | None,
    ) -> None:
        own = [fleet.pool(name).route for name in routes]
        self._request = request
        self._observer = observer
        self._cache = cache if all(route.caches_embeddings for route in own) else None
        self._depends_on = dependencies(_served_models(routes, own), request.dimensions)
        self._max_inputs = min(route.max_inputs for route in own)
        self._attempts = Attempts(request, routes, fleet, observer)
        self._cached_tokens = 0

    @property
    def calls(self) -> list[EngineCall]:
        """Every engine call so far: what is billed."""
        return self._attempts.all_calls

    @property
    def usage(self) -> Usage:
        """As a client is told: inputs from the cache are prompt tokens too, and cached ones."""
        cached = Usage(prompt_tokens=self._cached_tokens, cached_tokens=self._cached_tokens)
        return usage_of(self.calls) + cached

    async def vectors(self) -> list[Vector]:
        """A vector for each input, in their order. Raises as `Gateway.complete` does."""
        digests = [digest_of(self._depends_on, text) for text in self._request.inputs]
        known = await self._look_up(digests)
        inputs = dict(zip(digests, self._request.inputs, strict=True))
        missing = [digest for digest in inputs if digest not in known]
        for start in range(0, len(missing), self._max_inputs):
            part = missing[start : start + self._max_inputs]
            known |= await self._compute(part, [inputs[digest] for digest in part])
        vectors = [known[digest].vector for digest in digests]
        if len({len(vector) for vector in vectors}) > 1:
            raise EngineFailed(
                "The model's engines give vectors of several lengths; they aren't the same model."
            )
        return vectors

    async def aclose(self) -> None:
        await self._attempts.close()

    async def _look_up(self, digests: Sequence[bytes]) -> dict[bytes, KnownVector]:
        if self._cache is None:
            return {}
        found = await self._cache.find(self._request.flow.tenant, digests)
        hits = [each for each in found if each is not None]
        self._cached_tokens = sum(each.tokens for each in hits)
        self._observer.embeddings_looked_up(
            self._request.model, hits=len(hits), misses=len(found) - len(hits)
        )
        return {digest: each for digest, each in zip(digests, found, strict=True) if each is not None}

    async def _compute(
        self, digests: Sequence[bytes], inputs: Sequence[EmbeddingInput]
    ) -> dict[bytes, KnownVector]:
        embedded = await self._attempts.embed(_part_of(self._request, inputs))
        tokens = shared_out(embedded.usage.prompt_tokens, inputs)
        new = {
            digest: KnownVector(vector, each)
            for digest, vector, each in zip(digests, embedded.vectors, tokens, strict=True)
        }
        if self._cache is not None:
            await self._cache.keep(self._request.flow.tenant, new)
        return new


def shared_out(tokens: int, inputs: Sequence[EmbeddingInput]) -> list[int]:
    """A call's tokens by the length of its inputs; the shares add up to them."""
    whole, seen, shares = sum(map(size_of, inputs)), 0, [0]
    for text in inputs:
        seen += size_of(text)
        shares.append(tokens * seen // whole if whole else tokens)
    return [after - before for before, after in pairwise(shares)]


def _served_models(names: Sequence[str], routes: Sequence[Route]) -> list[str]:
    return sorted({route.model or name for name, route in zip(names, routes, strict=True)})


def _part_of(request: EmbeddingRequest, inputs: Sequence[EmbeddingInput]) -> EmbeddingRequest:
    return EmbeddingRequest(
        request_id=request.request_id,
        model=request.model,
        inputs=list(inputs),
        dimensions=request.dimensions,
        user=request.user,
        flow=request.flow,
    )
