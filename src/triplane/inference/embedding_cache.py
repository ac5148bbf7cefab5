"""The embedding cache: an input that was embedded before isn't sent to an engine again.

Always safe, because a model gives the same input the same vector; within a tenant only. An input is known by
the hash of its text and of all that its vector depends on. Each tenant has a fixed number of places, and an
input's hash says which is its own: what comes later takes the place, so the cache is bounded without
anybody counting. A store that is slow, or away, is a cache that has nothing.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

from triplane.domain.embeddings import EmbeddingInput, Vector

PLACES = 16_384
"""Of each tenant: at most 100 MB with vectors of 1,536 numbers."""
KEPT_S = 24 * 3600
STORE_S = 0.25
MEMORY_BYTES = 64 * 2**20
_DIGEST_BYTES = 20
_HEAD_BYTES = _DIGEST_BYTES + 4
_MOST_TOKENS = 2**32 - 1


class EmbeddingStore(Protocol):
    """Keeps values at places for `kept_s` seconds at most. It may lose them whenever it likes, and raises
    nothing."""

    async def get(self, tenant: str, places: Sequence[int]) -> Sequence[bytes | None]: ...

    async def put(self, tenant: str, values: Mapping[int, bytes], kept_s: int) -> None: ...


class KnownVector(msgspec.Struct, frozen=True):
    """`tokens`: its part of what the engine has read for the call that it came from."""

    vector: Vector
    tokens: int


class EmbeddingCache:
    """Finds and keeps vectors, within `STORE_S` or not at all."""

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    async def find(self, tenant: str, digests: Sequence[bytes]) -> list[KnownVector | None]:
        """Of each digest, what is known."""
        try:
            async with asyncio.timeout(STORE_S):
                found = await self._store.get(tenant, [_place(digest) for digest in digests])
        except TimeoutError:
            return [None] * len(digests)
        return [_known(digest, value) for digest, value in zip(digests, found, strict=True)]

    async def keep(self, tenant: str, known: Mapping[bytes, KnownVector]) -> None:
        values = {
            _place(digest): digest + min(each.tokens, _MOST_TOKENS).to_bytes(4, "big") + each.vector
            for digest, each in known.items()
        }
        try:
            async with asyncio.timeout(STORE_S):
                await self._store.put(tenant, values, KEPT_S)
        except TimeoutError:
            return


def digest_of(depends_on: bytes, text: EmbeddingInput) -> bytes:
    """What two inputs with the same vector have in common."""
    return blake2b(msgspec.json.encode(text), key=depends_on[:64], digest_size=_DIGEST_BYTES).digest()


def dependencies(models: Sequence[str], dimensions: int | None) -> bytes:
    """All but the input that a vector depends on: the engines' own names of the model, and its length."""
    return blake2b(msgspec.json.encode((models, dimensions)), digest_size=32).digest()


def _place(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big") % PLACES


def _known(digest: bytes, value: bytes | None) -> KnownVector | None:
    if value is None or value[:_DIGEST_BYTES] != digest:
        return None
    return KnownVector(value[_HEAD_BYTES:], int.from_bytes(value[_DIGEST_BYTES:_HEAD_BYTES], "big"))


class MemoryEmbeddings:
    """An `EmbeddingStore` in this process: what was used last, up to a size."""

    def __init__(self, most_bytes: int = MEMORY_BYTES) -> None:
        self._most = most_bytes
        self._size = 0
        self._values: OrderedDict[tuple[str, int], tuple[float, bytes]] = OrderedDict()

    async def get(self, tenant: str, places: Sequence[int]) -> list[bytes | None]:
        return [self._get((tenant, place)) for place in places]

    async def put(self, tenant: str, values: Mapping[int, bytes], kept_s: int) -> None:
        until = time.monotonic() + kept_s
        for place, value in values.items():
            self._drop((tenant, place))
            self._values[tenant, place] = (until, value)
            self._size += len(value)
        while self._size > self._most:
            self._drop(next(iter(self._values)))

    def _get(self, where: tuple[str, int]) -> bytes | None:
        found = self._values.get(where)
        if found is None:
            return None
        if time.monotonic() > found[0]:
            self._drop(where)
            return None
        self._values.move_to_end(where)
        return found[1]

    def _drop(self, where: tuple[str, int]) -> None:
        if (found := self._values.pop(where, None)) is not None:
            self._size -= len(found[1])
