"""The replay log: each turn's events in a Redis stream, handed straight to the followers in this process.

An entry's position is its id in the stream (`7` is `7-0`). Beside the stream lies the fence of the turn's
newest owner; one script checks it and appends, so an owner that was overtaken while it was paused writes
nothing, however late it wakes.

While a turn runs in this process its entries are also kept in memory: local followers read them there, each
at its own pace and without a queue of its own, and a follower that is slow or stops costs nothing. From
there too a log that Redis has lost is written again, whole, with the next append. Turns of other processes
are followed through the one `LogReader`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import cast

import msgspec
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from triplane.adapters.redis.log_reader import LogReader
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.adapters.redis.scripts import Script
from triplane.domain.errors import StoreUnavailable
from triplane.domain.events import LogEntry, TurnEnded, TurnEvent, Usage
from triplane.domain.money import EngineCall
from triplane.orchestration.ports import HeldTurn, LoggedAttempt, Recovered

_log = structlog.get_logger(__name__)

KEPT_S = 3600
"""How long a log outlives its last event; the turn's row has the answer for good."""

_EVENT = b"e"
_CALLS = b"c"
_FENCE = b"f"
"""An entry's event, the engine calls of its owner's attempt by then, and that owner's fence."""

_QUIET_S = 2.0
"""How long a follower of another process's turn waits for news before its row is asked."""

_APPEND = Script("""
local fence = tonumber(redis.call('GET', KEYS[2]) or '0')
if fence > tonumber(ARGV[1]) then return -1 end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[3])
if ARGV[5] == '1' then redis.call('DEL', KEYS[1]) end
local last = 0
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if newest[1] then last = tonumber(string.match(newest[1][1], '^%d+')) end
if last < tonumber(ARGV[2]) then return last end
for i = 6, #ARGV, 2 do
  if tonumber(ARGV[i]) > last then
    redis.call('XADD', KEYS[1], ARGV[i] .. '-0', 'e', ARGV[i + 1], 'c', ARGV[4], 'f', ARGV[1])
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return -2
""")
"""KEYS: stream, fence. ARGV: fence, the position before the first, seconds to keep, calls, 1 to write it
anew, then pairs of position and event. Returns -1 for an overtaken owner, -2 when written, else the last
position there is: the log lacks what comes before these entries."""

_OVERTAKEN = -1
_WRITTEN = -2

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[TurnEvent] = msgspec.msgpack.Decoder(TurnEvent)


class _Call(msgspec.Struct, array_like=True):
    """An engine call as an entry carries it: short, because every entry does."""

    attempt: int
    route: str
    replica: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: int


_calls_decoder = msgspec.msgpack.Decoder(list[_Call])


class _Tail:
    """The entries of a turn that runs here, and a way to wait for more.

    `is_anew`: they are to take the place of what Redis holds.
    """

    def __init__(self, *, is_anew: bool = False) -> None:
        self.entries: list[LogEntry] = []
        self.is_anew = is_anew
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

    def __init__(self, redis: RedisPipeline, reader: LogReader) -> None:
        self._redis = redis
        self._reader = reader
        self._tails: dict[str, _Tail] = {}

    def open(self, tenant_id: str, turn_id: str) -> None:
        """Begin the log of a turn that runs in this process."""
        self._tails[turn_id] = _Tail()

    def close(self, tenant_id: str, turn_id: str) -> None:
        """The turn runs here no longer; whoever follows reads what there is and goes on elsewhere."""
        if tail := self._tails.pop(turn_id, None):
            tail.close()

    async def append(self, held: HeldTurn, entries: Sequence[LogEntry], calls: Sequence[EngineCall]) -> bool:
        """Store the entries in Redis, then hand them to the local followers. False if overtaken.

        Raises StoreUnavailable; whether the entries are stored isn't known then.
        """
        tail = self._tails.get(held.turn_id)
        try:
            if tail and tail.is_anew:
                stored = await self._store(held, [*tail.entries, *entries], calls, 0, is_anew=True)
                tail.is_anew = False
            else:
                stored = await self._store(held, entries, calls, _last(tail, entries))
            if stored >= 0 and tail:
                missing = [entry for entry in tail.entries if entry.position > stored]
                stored = await self._store(held, [*missing, *entries], calls, stored)
        except (RedisError, OSError) as error:
            _log.warning("replay log not written", turn_id=held.turn_id, reason=type(error).__name__)
            raise StoreUnavailable("The replay log can't be reached right now.") from error
        if stored == _OVERTAKEN:
            return False
        if tail:
            tail.extend(entries)
        return True

    async def rewrite(self, held: HeldTurn, entries: Sequence[LogEntry]) -> bool:
        self.close(held.tenant_id, held.turn_id)  # who follows here has read what is no longer so
        self._tails[held.turn_id] = _Tail(is_anew=True)
        try:
            return await self.append(held, entries, ())
        except StoreUnavailable:
            self.show(held, entries)
            return True

    def show(self, held: HeldTurn, entries: Sequence[LogEntry]) -> None:
        if tail := self._tails.get(held.turn_id):
            tail.extend(entries)

    async def take_over(self, held: HeldTurn) -> Recovered:
        """Raise the fence, then read all there is."""
        entries: list[LogEntry] = []
        attempts: dict[int, LoggedAttempt] = {}
        try:
            await self._store(held, [], (), 0)
            rows = await self._redis.send("XRANGE", _key(held.tenant_id, held.turn_id), "-", "+")
        except (RedisError, OSError) as error:
            _log.warning("replay log not read", turn_id=held.turn_id, reason=type(error).__name__)
            return Recovered(entries=[], attempts=[], is_read=False)
        for position, pairs in cast(list[tuple[bytes, list[bytes]]], rows):
            fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
            entries.append(_entry(position, fields))
            attempt = _attempt(entries[-1].position, fields)
            attempts[attempt.fence] = attempt
        if tail := self._tails.get(held.turn_id):
            tail.extend(entries)
        return Recovered(entries=entries, attempts=list(attempts.values()))

    async def follow(self, tenant_id: str, turn_id: str, after: int) -> AsyncIterator[LogEntry]:
        """Entries behind `after`; ends after `TurnEnded`, or when nothing more comes for a while."""
        tail = self._tails.get(turn_id)
        followed = self._follow_tail(tail, after) if tail else self._follow_redis(tenant_id, turn_id, after)
        async with aclosing(followed):
            async for entry in followed:
                yield entry
                if isinstance(entry.event, TurnEnded):
                    return

    async def _store(
        self,
        held: HeldTurn,
        entries: Sequence[LogEntry],
        calls: Sequence[EngineCall],
        before: int,
        *,
        is_anew: bool = False,
    ) -> int:
        pairs = [part for entry in entries for part in (entry.position, _encoder.encode(entry.event))]
        key = _key(held.tenant_id, held.turn_id)
        keys = [key, key + ":fence"]
        arguments = [held.fence, before, KEPT_S, _encode_calls(calls), int(is_anew), *pairs]
        try:
            return int(await self._redis.run(_APPEND, keys, arguments))
        except RedisConnectionError:  # lost on the way, and perhaps there: the positions tell
            return int(await self._redis.run(_APPEND, keys, arguments))

    async def _follow_tail(self, tail: _Tail, after: int) -> AsyncGenerator[LogEntry, None]:
        index = 0
        while True:
            while index < len(tail.entries):
                index += 1
                entry = tail.entries[index - 1]
                if entry.position > after:
                    yield entry
            if tail.closed:
                return
            await tail.grown()

    async def _follow_redis(self, tenant_id: str, turn_id: str, after: int) -> AsyncGenerator[LogEntry, None]:
        async with aclosing(self._reader.follow(_key(tenant_id, turn_id), (after, 0), _QUIET_S)) as rows:
            async for row in rows:
                yield LogEntry(position=row.id[0], event=_decoder.decode(row.fields[_EVENT]))


def _last(tail: _Tail | None, entries: Sequence[LogEntry]) -> int:
    """The position that comes before these entries: a log that was lost may have left a gap."""
    return tail.entries[-1].position if tail and tail.entries else entries[0].position - 1


def _entry(position: bytes, fields: dict[bytes, bytes]) -> LogEntry:
    return LogEntry(position=int(position.split(b"-")[0]), event=_decoder.decode(fields[_EVENT]))


def _attempt(position: int, fields: dict[bytes, bytes]) -> LoggedAttempt:
    """The attempt that wrote an entry, as far as it had come."""
    calls = _decode_calls(fields[_CALLS]) if _CALLS in fields else []
    return LoggedAttempt(fence=int(fields[_FENCE]), position=position, calls=calls)


def _encode_calls(calls: Sequence[EngineCall]) -> bytes:
    return _encoder.encode(
        [
            _Call(
                call.attempt,
                call.route,
                call.replica,
                call.usage.prompt_tokens,
                call.usage.completion_tokens,
                call.usage.cached_tokens,
                call.cost,
            )
            for call in calls
        ]
    )


def _decode_calls(data: bytes) -> list[EngineCall]:
    return [
        EngineCall(
            attempt=call.attempt,
            route=call.route,
            replica=call.replica,
            usage=Usage(
                prompt_tokens=call.prompt_tokens,
                completion_tokens=call.completion_tokens,
                cached_tokens=call.cached_tokens,
            ),
            cost=call.cost,
        )
        for call in _calls_decoder.decode(data)
    ]


def _key(tenant_id: str, turn_id: str) -> str:
    return f"turn:{{{turn_id}}}:{tenant_id}"
