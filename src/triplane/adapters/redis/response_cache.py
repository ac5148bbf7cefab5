"""Answers of the exact-response cache in Redis, by tenant. Redis being away is a cache that has nothing."""

from typing import cast

import structlog
from redis.exceptions import RedisError

from triplane.adapters.redis.pipeline import RedisPipeline

_log = structlog.get_logger(__name__)


class RedisResponses:
    """`ResponseStore` of the inference plane."""

    def __init__(self, redis: RedisPipeline) -> None:
        self._redis = redis

    async def get(self, tenant: str, key: str) -> bytes | None:
        try:
            found = await self._redis.send("GET", _key(tenant, key))
        except (RedisError, OSError) as error:
            _log.warning("cached answers not read", reason=type(error).__name__)
            return None
        return cast(bytes | None, found)

    async def put(self, tenant: str, key: str, answer: bytes, kept_s: int) -> None:
        try:
            await self._redis.send("SET", _key(tenant, key), answer, "EX", kept_s)
        except (RedisError, OSError) as error:
            _log.warning("answer not cached", reason=type(error).__name__)


def _key(tenant: str, key: str) -> str:
    return f"answer:{{{tenant}}}:{key}"
