"""Announcements to a user's devices: a short Redis stream for each user, written without waiting.

Nothing waits for an announcement and none is worth keeping: what is lost with Redis, or has left the stream,
a device learns when it fetches its list again, and `resume` tells it to.
"""

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from triplane.adapters.redis.log_reader import LogReader, RowId
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.announcements import Announced, Announcement
from triplane.domain.conversation import Principal
from triplane.domain.errors import StoreUnavailable
from triplane.orchestration.announcing import Resumed

KEPT = 1000
_KEPT_S = 86_400
_QUIET_S = 5.0
_EVENT = b"e"
_BEGINNING = "0-0"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Announcement)


class RedisAnnouncer:
    """The `Announcer` port."""

    def __init__(self, redis: RedisPipeline) -> None:
        self._redis = redis

    def announce(self, tenant_id: str, user_id: str, announcement: Announcement) -> None:
        key = _key(tenant_id, user_id)
        self._redis.post("XADD", key, "MAXLEN", "~", KEPT, "*", _EVENT, _encoder.encode(announcement))
        self._redis.post("EXPIRE", key, _KEPT_S)


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
