"""Redis over one connection: the commands of one moment go out in one write, and their answers come in one.

So what a turn asks for at once is one round trip, what all turns ask for at once shares its system calls, and
a command costs a fraction of what a pooled client's does (docs/performance.md). Commands that block, and
subscriptions, have no place here: everyone behind them would wait.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

import hiredis
import structlog
from redis.asyncio.connection import ConnectKwargs, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from triplane.adapters.redis.link import ANSWER_TIMEOUT_S, Link
from triplane.adapters.redis.scripts import Script

_log = structlog.get_logger(__name__)

PATIENCE_S = 2.0
"""How long commands wait for a Redis that was just lost, such as one that starts again; later they fail at
once, until it is back."""

MOST_WAITING = 10_000
"""Commands that may wait for an answer, or for a connection, at once."""

_CONNECT_TIMEOUT_S = 2.0
_TRY_AGAIN_S = 0.05

Argument = str | bytes | int | float
Answer = asyncio.Future[Any]


class RedisPipeline:
    """Connects on first use, and again when the connection is lost; close it with `aclose`.

    Every command raises RedisError: ConnectionError and TimeoutError where it isn't known whether Redis has
    run it, ResponseError where Redis refuses. Answers are bytes, integers, lists or None.
    """

    def __init__(self, url: str, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._address = parse_url(url)
        self._answer_timeout_s = answer_timeout_s
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._waiting: list[tuple[Answer, bytes]] = []
        self._connecting: asyncio.Task[None] | None = None
        self._lost_at = self._loop.time()
        self._is_closed = False

    def send(self, *command: Argument) -> Answer:
        """Send a command with all others of this moment, in the order of the calls; await its answer."""
        answer: Answer = self._loop.create_future()
        packed = _packed(command)
        link = self._link
        if self._is_closed:
            answer.set_exception(RedisConnectionError("The connection was closed."))
        elif (link.due if link else len(self._waiting)) >= MOST_WAITING:
            answer.set_exception(RedisConnectionError("Redis lags behind."))
        elif link:
            link.send(packed, answer)
        else:
            self._waiting.append((answer, packed))
            self._connecting = self._connecting or self._loop.create_task(self._connect())
        return answer

    def post(self, *command: Argument) -> None:
        """Send a command whose answer nobody needs; that it failed is logged."""
        self.send(*command).add_done_callback(_log_failure)

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script; its text is sent only to a Redis that doesn't know it."""
        try:
            return await self.send("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self.send("EVAL", script.text, len(keys), *keys, *arguments)

    async def aclose(self, within_s: float = 1.0) -> None:
        """Wait a moment for the answers that are due, then close."""
        self._is_closed = True
        if self._connecting:
            await asyncio.wait((self._connecting,), timeout=within_s)
        if self._connecting:
            self._connecting.cancel()
            await asyncio.wait((self._connecting,))
        self._refuse_waiting()
        if self._link:
            await self._link.aclose(within_s)

    async def _connect(self) -> None:
        """Connect; patiently if Redis was there a moment ago, else who waits is told that it is away."""
        try:
            while True:
                try:
                    self._link = await self._opened()
                except (RedisError, OSError, TimeoutError) as error:
                    if self._loop.time() - self._lost_at > PATIENCE_S:
                        self._refuse_waiting(error)
                        return
                    await asyncio.sleep(_TRY_AGAIN_S)
                else:
                    break
            waiting, self._waiting = self._waiting, []
            for answer, packed in waiting:
                self._link.send(packed, answer)
        finally:
            self._connecting = None
            self._refuse_waiting()

    async def _opened(self) -> Link:
        """A link to the right database, as the right user. Raises RedisError, OSError, TimeoutError."""
        address, link = self._address, Link(self._lost, self._answer_timeout_s)
        kind = address.get("connection_class")
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                if kind is UnixDomainSocketConnection:
                    await self._loop.create_unix_connection(lambda: link, address["path"])
                else:
                    host, port = address.get("host", "localhost"), address.get("port", 6379)
                    await self._loop.create_connection(lambda: link, host, port, ssl=_tls(address))
                for command in _greeting(address):
                    answer: Answer = self._loop.create_future()
                    link.send(_packed(command), answer)
                    await answer
        except BaseException:
            link.abort()
            raise
        return link

    def _lost(self, link: Link) -> None:
        if self._link is link:
            self._link = None
            self._lost_at = self._loop.time()

    def _refuse_waiting(self, cause: Exception | None = None) -> None:
        waiting, self._waiting = self._waiting, []
        reason = f"Redis is away: {type(cause).__name__}." if cause else "The connection to Redis was closed."
        for answer, _ in waiting:
            if not answer.done():
                answer.set_exception(RedisConnectionError(reason))


def _tls(address: ConnectKwargs) -> ssl.SSLContext | None:
    """For `rediss://`: what the address says of certificates, as redis-py understands it."""
    if address.get("connection_class") is not SSLConnection:
        return None
    options: dict[str, Any] = {name: value for name, value in address.items() if name != "connection_class"}
    return SSLConnection(**options).ssl_context.get()


def _packed(command: tuple[Argument, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub: tuples of one
    return packed


def _greeting(address: ConnectKwargs) -> list[tuple[str, ...]]:
    """Who we are and which database is meant."""
    commands: list[tuple[str, ...]] = []
    if password := address.get("password"):
        user = address.get("username")
        commands.append(("AUTH", user, password) if user else ("AUTH", password))
    if database := int(address.get("db", 0)):
        commands.append(("SELECT", str(database)))
    return commands


def _log_failure(answer: Answer) -> None:
    if not answer.cancelled() and (error := answer.exception()):
        _log.warning("not written to Redis", reason=type(error).__name__)
