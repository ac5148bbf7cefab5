"""The fleet's last hours: a sample of each process every ten seconds, kept in Redis until it is of no use."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog
from redis.exceptions import RedisError

from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.errors import StoreUnavailable, TriplaneError
from triplane.domain.fleet import FleetPoint, FleetSample, RouteView, merged_samples, sample_of

EVERY_S = 10
KEPT_S = 3 * 3600
_KEY = "fleet-history:{fleet}:"

_log = structlog.get_logger(__name__)
_decoder = msgspec.json.Decoder(list[FleetSample])


class RedisFleetHistory:
    """One hash for each moment, a field for each process: what several say of one moment is summed."""

    def __init__(self, redis: RedisPipeline) -> None:
        self._redis = redis

    async def record(self, process: str, routes: Sequence[RouteView], at: float) -> None:
        """Raises RedisError."""
        key = f"{_KEY}{int(at // EVERY_S)}"
        samples = msgspec.json.encode([sample_of(route) for route in routes])
        self._redis.post("HSET", key, process, samples)
        await self._redis.send("EXPIRE", key, KEPT_S)

    async def points(self, minutes: int, at: float) -> dict[str, list[FleetPoint]]:
        """By route, oldest first. Raises StoreUnavailable."""
        last = int(at // EVERY_S)
        moments = range(last - minutes * 60 // EVERY_S, last + 1)
        try:
            found = await asyncio.gather(*(self._redis.send("HVALS", f"{_KEY}{each}") for each in moments))
        except (RedisError, OSError) as error:
            raise StoreUnavailable("The fleet's history can't be read right now.") from error
        history: dict[str, list[FleetPoint]] = {}
        for moment, values in zip(moments, found, strict=True):
            samples = [sample for value in values for sample in _decoder.decode(value)]
            for route, point in merged_samples(samples, moment * EVERY_S).items():
                history.setdefault(route, []).append(point)
        return history

    async def run(self, process: str, fleet: Callable[[], Awaitable[Sequence[RouteView]]]) -> None:
        """Take a sample at each moment, for as long as the process lives. Processes that see the same fleet
        give the same `process`."""
        while True:
            await asyncio.sleep(EVERY_S - time.time() % EVERY_S)
            try:
                await self.record(process, await fleet(), time.time())
            except (RedisError, OSError, TriplaneError) as error:
                _log.warning("fleet not sampled", reason=type(error).__name__)
