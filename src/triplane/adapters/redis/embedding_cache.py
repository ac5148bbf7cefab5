"""Vectors of the embedding cache in Redis, by tenant. Redis being away is a cache that has nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

import structlog
from redis.exceptions import RedisError

from triplane.adapters.redis.pipeline import RedisPipeline

_log = structlog.get_logger(__name__)

_READ_AT_ONCE = 64
"""Vectors are large and the connection is everybody's: who comes behind an answer waits for it."""


class RedisEmbeddings:
    """`EmbeddingStore` of the inference plane. A tenant's keys share a node of a cluster."""

    def __init__(self, redis: RedisPipeline) -> None:
        self._redis = redis

    async def get(self, tenant: str, places: Sequence[int]) -> Sequence[bytes | None]:
        found: list[bytes | None] = []
        try:
            for at in range(0, len(places), _READ_AT_ONCE):
                keys = [_key(tenant, place) for place in places[at : at + _READ_AT_ONCE]]
                found += cast(Sequence[bytes | None], await self._redis.send("MGET", *keys))
        except (RedisError, OSError) as error:
            _log.warning("cached embeddings not read", reason=type(error).__name__)
            return [None] * len(places)
        return found

    async def put(self, tenant: str, values: Mapping[int, bytes], kept_s: int) -> None:
        writes = [
            self._redis.send("SET", _key(tenant, place), value, "EX", kept_s)
            for place, value in values.items()
        ]
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(outcome, RedisError | OSError):
                _log.warning("embeddings not cached", reason=type(outcome).__name__)
                return
            if isinstance(outcome, BaseException):
                raise outcome


def _key(tenant: str, place: int) -> str:
    return f"embedding:{{{tenant}}}:{place}"
