"""Announcements to a user's devices: a short Redis stream for each user, written in the background.

Nothing waits for an announcement and none is worth keeping: what is lost with Redis, or has left the stream,
a device learns when it fetches its list again, and `resume` tells it to.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from triplane.adapters.redis.log_reader import LogReader, RowId
from triplane.domain.announcements import Announced, Announcement
from triplane.domain.conversation import Principal
from triplane.domain.errors import StoreUnavailable
from triplane.orchestration.announcing import Resumed

_log = structlog.get_logger(__name__)

KEPT = 1000
_KEPT_S = 86_400
_QUIET_S = 5.0
_PENDING = 1000
_EVENT = b"e"
_BEGINNING = "0-0"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Announcement)


class RedisAnnouncer:
    """The `Announcer` port. `run` writes until it is cancelled; `drain` waits for what is pending."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._pending: asyncio.Queue[tuple[str, Announcement]] = asyncio.Queue(_PENDING)

    def announce(self, tenant_id: str, user_id: str, announcement: Announcement) -> None:
        try:
            self._pending.put_nowait((_key(tenant_id, user_id), announcement))
        except asyncio.QueueFull:
            _log.warning("announcement dropped", type=announcement.type)

    async def run(self) -> None:
        while True:
            key, announcement = await self._pending.get()
            try:
                await self._write(key, announcement)
            except (RedisError, OSError) as error:
                _log.warning("announcement lost", reason=type(error).__name__)
            finally:
                self._pending.task_done()

    async def drain(self, within_s: float) -> None:
        """Wait until all is written, for so long at most."""
        try:
            async with asyncio.timeout(within_s):
                await self._pending.join()
        except TimeoutError:
            _log.warning("announcements lost", pending=self._pending.qsize())

    async def _write(self, key: str, announcement: Announcement) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(key, {_EVENT: _encoder.encode(announcement)}, maxlen=KEPT, approximate=True)
            pipe.expire(key, _KEPT_S)
            await pipe.execute()


class RedisAnnouncements:
    """The `Announcements` port: the same streams, read."""

    def __init__(self, redis: Redis, reader: LogReader) -> None:
        self._redis = redis
        self._reader = reader

    async def resume(self, who: Principal, place: str | None) -> Resumed:
        """Where to follow from. Raises StoreUnavailable."""
        key = _key(who.tenant_id, who.user_id)
        try:
            if place and await self._has(key, place):
                return Resumed(place=place, has_missed=False)
            newest: Any = await self._redis.xrevrange(key, count=1)
        except (RedisError, OSError) as error:
            raise StoreUnavailable("Live updates can't be read right now.") from error
        now = newest[0][0].decode() if newest else _BEGINNING
        return Resumed(place=now, has_missed=place is not None and place != now)

    async def follow(self, who: Principal, place: str) -> AsyncGenerator[Announced | None, None]:
        """The announcements behind `place`; None now and then while there are none. Ends never."""
        last, key = _row_id(place), _key(who.tenant_id, who.user_id)
        while True:
            rows = self._reader.follow(key, last, _QUIET_S)
            try:
                async for row in rows:
                    last = row.id
                    announcement = _decoder.decode(row.fields[_EVENT])
                    yield Announced(f"{last[0]}-{last[1]}", announcement)
            finally:
                await rows.aclose()
            yield None

    async def _has(self, key: str, place: str) -> bool:
        """Whether the announcement of that place is still there, and so all behind it."""
        return _is_place(place) and bool(await self._redis.xrange(key, place, place, count=1))


def _is_place(text: str) -> bool:
    milliseconds, dash, number = text.partition("-")
    digits = (milliseconds + number).isascii() and milliseconds.isdigit() and number.isdigit()
    return bool(dash) and digits and len(text) <= 40 and max(int(milliseconds), int(number)) < 2**64


def _row_id(place: str) -> RowId:
    milliseconds, _, number = place.partition("-")
    return int(milliseconds), int(number)


def _key(tenant_id: str, user_id: str) -> str:
    return f"announcements:{{{tenant_id}:{user_id}}}"
