"""One reader of Redis streams for all who follow them in this process.

A follower first catches up by itself, without blocking, and then joins the stream's tail: one task reads the
news of all streams that are followed here, over one connection, and each tail keeps the newest rows for as
long as anybody follows. So a follower costs no connection, and one that is slow costs no memory: what has
left the tail it reads from Redis again.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, cast

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_log = structlog.get_logger(__name__)

KEPT_ROWS = 4096
"""What a tail keeps at most: longer than most answers."""

_BATCH = 500
_BLOCK_MS = 100
"""How long the reader blocks: a stream that is followed anew waits for its turn so long at most."""

_GATHER_S = 0.005
"""The pause in which news of many streams gather into one answer."""

_RETRY_S = 0.5

RowId = tuple[int, int]


class Row(msgspec.Struct, frozen=True):
    id: RowId
    fields: dict[bytes, bytes]


class _Tail:
    """The newest rows of one stream behind `since`; None while nobody has caught up yet."""

    def __init__(self) -> None:
        self.followers = 0
        self.since: RowId | None = None
        self._ids: list[RowId] = []
        self._rows: list[Row] = []
        self._grown = asyncio.Event()

    @property
    def last(self) -> RowId | None:
        return self._ids[-1] if self._ids else self.since

    def extend(self, rows: list[Row]) -> None:
        """Rows come in order; those of a log that was written anew are here already."""
        for row in rows:
            if self.last is None or row.id > self.last:
                self._ids.append(row.id)
                self._rows.append(row)
        surplus = len(self._ids) - KEPT_ROWS
        if surplus > 0:
            self.since = self._ids[surplus - 1]
            del self._ids[:surplus], self._rows[:surplus]
        self._grown.set()
        self._grown = asyncio.Event()

    def reaches(self, last: RowId) -> bool:
        return self.since is not None and self.since <= last

    def behind(self, last: RowId) -> list[Row]:
        place = bisect_right(self._ids, last)
        return self._rows[place : place + _BATCH]

    async def grown(self, within_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._grown.wait()
            return True
        return False


class LogReader:
    """`run` reads until it is cancelled; whoever builds this owns that task."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._tails: dict[str, _Tail] = {}
        self._followed = asyncio.Event()

    def __len__(self) -> int:
        """How many streams are followed here."""
        return len(self._tails)

    async def run(self) -> None:
        """Hand news to the tails, for as long as this process lives."""
        while True:
            positions = {key: _text(tail.last) for key, tail in self._tails.items() if tail.last}
            if not positions:
                self._followed.clear()
                await self._followed.wait()
                continue
            try:
                found = _streams(await self._read(positions, _BLOCK_MS))
            except (RedisError, OSError) as error:
                _log.warning("streams not read", reason=type(error).__name__)
                await asyncio.sleep(_RETRY_S)
                continue
            for key, rows in found.items():
                if tail := self._tails.get(key):
                    tail.extend(rows)
            await asyncio.sleep(_GATHER_S)

    async def follow(self, key: str, after: RowId, quiet_s: float) -> AsyncGenerator[Row, None]:
        """The stream's rows behind `after`, those to come included.

        Ends when nothing has come for `quiet_s` seconds, also because Redis is away.
        """
        tail = self._tails.setdefault(key, _Tail())
        tail.followers += 1
        last = after
        try:
            while True:
                if tail.reaches(last):
                    rows = tail.behind(last)
                else:
                    rows = await self._caught_up(key, tail, last)
                for row in rows:
                    last = row.id
                    yield row
                if not rows and not tail.behind(last) and not await tail.grown(quiet_s):
                    return
        finally:
            tail.followers -= 1
            if not tail.followers:
                del self._tails[key]

    async def _caught_up(self, key: str, tail: _Tail, last: RowId) -> list[Row]:
        """What Redis has behind `last`; the tail begins there if it hasn't yet and that is nothing."""
        try:
            rows = _streams(await self._read({key: _text(last)}, None)).get(key, [])
        except (RedisError, OSError) as error:
            _log.warning("stream not read", reason=type(error).__name__)
            rows = []
        if not rows and tail.since is None:
            tail.since = last
            self._followed.set()
        return rows

    async def _read(self, positions: dict[str, str], block_ms: int | None) -> Any:
        return await self._redis.xread(cast(Any, positions), count=_BATCH, block=block_ms)


def _streams(found: Any) -> dict[str, list[Row]]:
    """Redis' answer: pairs of key and rows, or nothing."""
    return {
        key.decode(): [Row(_row_id(place), fields) for place, fields in rows] for key, rows in found or []
    }


def _row_id(text: bytes) -> RowId:
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


def _text(row_id: RowId) -> str:
    return f"{row_id[0]}-{row_id[1]}"
