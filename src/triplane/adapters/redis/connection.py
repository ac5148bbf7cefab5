"""The connection to Redis or Valkey: bounded in number and in time."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from triplane.domain.errors import StoreUnavailable

ANSWER_TIMEOUT_S = 5.0
"""A command that blocks on the server, such as XREAD BLOCK, must block for less than this."""

_CONNECT_TIMEOUT_S = 2.0
_POOL_TIMEOUT_S = 2.0
_MOST_CONNECTIONS = 32


def open_redis(url: str) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://`. It connects on first use; close it with `aclose`.

    Answers are bytes.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_MOST_CONNECTIONS,
        timeout=_POOL_TIMEOUT_S,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        socket_timeout=ANSWER_TIMEOUT_S,
    )
    return Redis.from_pool(pool)


async def check_redis(redis: Redis) -> None:
    """Raises StoreUnavailable unless Redis answers: for readiness."""
    try:
        await redis.ping()
    except (RedisError, OSError) as exc:
        raise StoreUnavailable("Redis can't be reached right now.") from exc
