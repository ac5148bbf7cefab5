"""Responses that go on for long, and the word that their user, session or key has no access any more.

Whoever is refused at the door must not go on listening inside: each process asks the store several times a
second, while anything is open, whose access has ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic

import structlog

from triplane.domain.conversation import Principal
from triplane.domain.errors import StoreUnavailable

ASK_EVERY_S = 0.25
LOOK_BACK_S = 3.0
"""More than a session or key is believed without asking: who was let in on the strength of that goes too."""

EndedAccess = Callable[[float], Awaitable[set[tuple[str, str]]]]
"""The tenant and the id of each user, session and key whose access ended in the last so many seconds."""

_log = structlog.get_logger(__name__)


class OpenStreams:
    """Used on one event loop. `run` closes what has to be closed, for as long as the process lives."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], set[asyncio.Future[None]]] = {}
        self._any = asyncio.Event()

    def __len__(self) -> int:
        return len({stream for streams in self._open.values() for stream in streams})

    @contextmanager
    def opened(self, who: Principal) -> "Iterator[asyncio.Future[None]]":
        """For as long as the response goes on; the future is done when it has to end."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        names = [(who.tenant_id, each) for each in (who.user_id, who.session_id, who.api_key_id) if each]
        for name in names:
            self._open.setdefault(name, set()).add(ended)
        self._any.set()
        try:
            yield ended
        finally:
            for name in names:
                streams = self._open[name]
                streams.discard(ended)
                if not streams:
                    del self._open[name]

    def end(self, names: Iterable[tuple[str, str]]) -> None:
        for name in names:
            for stream in self._open.get(name, ()):
                if not stream.done():
                    stream.set_result(None)

    async def run(self, ended: EndedAccess) -> None:
        asked_at = monotonic()
        while True:
            if not self._open:
                self._any.clear()
                await self._any.wait()
                asked_at = monotonic()
            now = monotonic()
            try:
                self.end(await ended(now - asked_at + LOOK_BACK_S))
                asked_at = now
            except StoreUnavailable:
                _log.warning("whose access has ended can't be asked now")
            await asyncio.sleep(ASK_EVERY_S)
