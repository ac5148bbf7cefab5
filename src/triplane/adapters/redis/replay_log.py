"""The replay log: each turn's events in a Redis stream, handed straight to the followers in this process.

An entry's position is its id in the stream (`7` is `7-0`). Redis refuses an id that is not greater than the
last one, so a writer that was overtaken can't write over what its successor has written.

While a turn runs in this process its entries are also kept in memory: local followers read them there, each
at its own pace and without a queue of its own, and a follower that is slow or stops costs nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from triplane.domain.events import LogEntry, TurnEnded, TurnEvent

_log = structlog.get_logger(__name__)

KEPT_S = 3600
"""How long a log outlives its last event; the turn's row has the answer for good."""

_FIELD = b"e"
_BLOCK_MS = 2000
_BATCH = 500

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[TurnEvent] = msgspec.msgpack.Decoder(TurnEvent)


class _Tail:
    """The entries of a turn that runs here, and a way to wait for more."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.closed = False
        self._grown = asyncio.Event()

    def extend(self, entries: Sequence[LogEntry]) -> None:
        self.entries.extend(entries)
        self._wake()

    def close(self) -> None:
        self.closed = True
        self._wake()

    async def grown(self) -> None:
        await self._grown.wait()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


class RedisReplayLog:
    """The `ReplayLog` port. Redis being away loses nobody who follows in the owner's process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._tails: dict[str, _Tail] = {}

    def open(self, tenant_id: str, turn_id: str) -> None:
        """Begin the log of a turn that runs in this process."""
        self._tails[turn_id] = _Tail()

    def close(self, tenant_id: str, turn_id: str) -> None:
        """The turn runs here no longer; whoever follows reads what there is and goes on elsewhere."""
        if tail := self._tails.pop(turn_id, None):
            tail.close()

    async def append(self, tenant_id: str, turn_id: str, entries: Sequence[LogEntry]) -> None:
        """Store the entries in Redis, then hand them to the local followers."""
        key = _key(tenant_id, turn_id)
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for entry in entries:
                    pipe.xadd(key, {_FIELD: _encoder.encode(entry.event)}, id=f"{entry.position}-0")
                if entries[0].position == 1 or isinstance(entries[-1].event, TurnEnded):
                    pipe.expire(key, KEPT_S)
                await pipe.execute()
        except (RedisError, OSError) as error:
            _log.warning("replay log not written", turn_id=turn_id, reason=type(error).__name__)
        if tail := self._tails.get(turn_id):
            tail.extend(entries)

    async def follow(self, tenant_id: str, turn_id: str, after: int) -> AsyncIterator[LogEntry]:
        """Entries behind `after`; ends after `TurnEnded`, or when nothing more comes for a while."""
        tail = self._tails.get(turn_id)
        followed = self._follow_tail(tail, after) if tail else self._follow_redis(tenant_id, turn_id, after)
        async for entry in followed:
            yield entry
            if isinstance(entry.event, TurnEnded):
                return

    async def _follow_tail(self, tail: _Tail, after: int) -> AsyncIterator[LogEntry]:
        index = after - tail.entries[0].position + 1 if tail.entries else 0
        index = max(0, index)
        while True:
            while index < len(tail.entries):
                index += 1
                entry = tail.entries[index - 1]
                if entry.position > after:
                    yield entry
            if tail.closed:
                return
            await tail.grown()

    async def _follow_redis(self, tenant_id: str, turn_id: str, after: int) -> AsyncIterator[LogEntry]:
        key, last = _key(tenant_id, turn_id), f"{after}-0"
        while True:
            try:
                found: Any = await self._redis.xread({key: last}, count=_BATCH, block=_BLOCK_MS)
            except (RedisError, OSError) as error:
                _log.warning("replay log not read", turn_id=turn_id, reason=type(error).__name__)
                return
            if not found:
                return
            ((_, rows),) = found
            for position, fields in rows:
                last = position.decode()
                event = _decoder.decode(fields[_FIELD])
                yield LogEntry(position=int(position.split(b"-")[0]), event=event)


def _key(tenant_id: str, turn_id: str) -> str:
    return f"turn:{{{turn_id}}}:{tenant_id}"
