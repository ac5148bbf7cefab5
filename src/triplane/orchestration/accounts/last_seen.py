"""When a session was last used: noted in memory, written together now and then, by nobody's request."""

import asyncio
from collections.abc import Callable
from time import monotonic

import structlog

from triplane.domain.errors import StoreUnavailable
from triplane.orchestration.accounts.ports import AccountStore

WRITE_EVERY_S = 5.0
NOTE_EVERY_S = 60.0
MOST = 10_000

_log = structlog.get_logger(__name__)


class LastSeen:
    """A session is noted at most once in `NOTE_EVERY_S`; with `MOST` of them a further one has to wait."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._noted: dict[tuple[str, str], float] = {}
        self._pending: set[tuple[str, str]] = set()

    def note(self, tenant_id: str, session_id: str) -> None:
        session, now = (tenant_id, session_id), self._clock()
        if now - self._noted.get(session, -NOTE_EVERY_S) < NOTE_EVERY_S or len(self._pending) >= MOST:
            return
        self._noted.pop(session, None)
        self._noted[session] = now
        self._pending.add(session)
        if len(self._noted) > MOST:
            del self._noted[next(iter(self._noted))]

    async def write(self, store: AccountStore) -> None:
        """Store what was noted. Raises StoreUnavailable."""
        pending, self._pending = self._pending, set()
        if pending:
            await store.note_seen(sorted(pending))

    async def run(self, store: AccountStore) -> None:
        """Write, for as long as the process lives; what can't be written is told the next minute."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            try:
                await self.write(store)
            except StoreUnavailable:
                _log.warning("sessions' last use not noted")
