"""The hot window: the messages that a conversation's next prompt is built from, kept near for a day."""

import msgspec
import structlog
from redis.exceptions import RedisError

from triplane.adapters.redis.pipeline import Answer, RedisPipeline
from triplane.orchestration.history_ports import Window

_log = structlog.get_logger(__name__)

_KEPT_S = 24 * 3600
_UNREACHABLE = (RedisError, OSError, TimeoutError)

_decoder = msgspec.msgpack.Decoder(Window)
_encoder = msgspec.msgpack.Encoder()


class RedisHotWindow:
    """`HotWindow` on Redis. While Redis can't be reached it answers as if empty, and says so once."""

    def __init__(self, redis: RedisPipeline) -> None:
        self._redis = redis
        self._reachable = True

    async def get(self, tenant_id: str, conversation_id: str) -> Window | None:
        try:
            packed = await self._redis.send("GET", _key(tenant_id, conversation_id))
        except _UNREACHABLE as exc:
            self._note_loss(exc, conversation_id)
            return None
        self._reachable = True
        return _unpack(packed)

    def put(self, tenant_id: str, conversation_id: str, window: Window) -> None:
        key = _key(tenant_id, conversation_id)
        answer = self._redis.send("SET", key, _encoder.encode(window), "EX", _KEPT_S)
        answer.add_done_callback(lambda answered: self._note_put(answered, conversation_id))

    async def drop(self, tenant_id: str, conversation_id: str) -> None:
        try:
            await self._redis.send("DEL", _key(tenant_id, conversation_id))
        except _UNREACHABLE as exc:
            self._note_loss(exc, conversation_id)
        else:
            self._reachable = True

    def _note_put(self, answer: Answer, conversation_id: str) -> None:
        if answer.cancelled():
            return
        error = answer.exception()
        if isinstance(error, Exception):
            self._note_loss(error, conversation_id)
        else:
            self._reachable = True

    def _note_loss(self, exc: Exception, conversation_id: str) -> None:
        if self._reachable:
            _log.warning("hot window unreachable", conversation_id=conversation_id, reason=type(exc).__name__)
        self._reachable = False


def _key(tenant_id: str, conversation_id: str) -> str:
    """The braces keep all keys of one conversation in one slot of a cluster."""
    return f"window:{tenant_id}:{{{conversation_id}}}"


def _unpack(packed: bytes | str | None) -> Window | None:
    if not isinstance(packed, bytes):
        return None
    try:
        return _decoder.decode(packed)
    except msgspec.DecodeError:
        return None  # written by another version of this program
