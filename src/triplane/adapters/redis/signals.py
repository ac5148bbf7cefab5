"""Stop signals between processes: whoever is told to stop a turn tells all, and its owner stops at once.

A signal may be lost, with Redis away or a subscriber that reconnects: the turn's row has the wish too, and
the owner reads it there when it renews its lease.
"""

import asyncio
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_log = structlog.get_logger(__name__)

_CHANNEL = "stopped-turns"
_LISTEN_S = 2.0
_RETRY_S = 0.5


class RedisStopSignals:
    """The `StopSignals` port. `run` listens until it is cancelled; whoever builds this owns that task."""

    def __init__(self, redis: Redis, stop: Callable[[str], object]) -> None:
        self._redis = redis
        self._stop = stop
        self.listening = asyncio.Event()

    async def send(self, turn_id: str) -> None:
        try:
            await self._redis.publish(_CHANNEL, turn_id)
        except (RedisError, OSError) as error:
            _log.warning("stop signal not sent", turn_id=turn_id, reason=type(error).__name__)

    async def run(self) -> None:
        """Stop what is named here, for as long as this process lives."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                self.listening.clear()
                _log.warning("stop signals not heard", reason=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as channel:
            await channel.subscribe(_CHANNEL)
            while True:
                message = await channel.get_message(timeout=_LISTEN_S)
                match message:
                    case {"type": "subscribe"}:
                        self.listening.set()
                    case {"type": "message", "data": bytes(turn_id)}:
                        self._stop(turn_id.decode())
