"""Buckets that all processes share, and what is done while they can't be reached: each process counts alone.

Chats go on without Redis. Until it is back, a user may have the limit once in every process.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from triplane.domain.errors import StoreUnavailable
from triplane.domain.limits import Claim, Lease, Settlement, Verdict
from triplane.inference.buckets import Buckets, MemoryBuckets

ANSWER_WITHIN_S = 0.5
"""A store that takes longer than this counts as away: no chat waits for it."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
"""How long the store is left alone after it has failed; each failure in a row doubles it."""

_KEPT = 10_000
"""How many slots that were left while the store was away are told to it afterwards; the others lapse."""

_log = structlog.get_logger(__name__)


class SharingObserver(Protocol):
    def limits_unshared(self, claims: int) -> None:
        """So many claims were decided by this process alone."""
        ...


class SharedBuckets:
    """`Buckets` that never fail: the shared ones, or this process's own while those are away."""

    def __init__(
        self,
        shared: Buckets,
        observer: SharingObserver,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._own = MemoryBuckets(clock)
        self._observer = observer
        self._clock = clock
        self._away_until = 0.0
        self._pause_s = 0.0
        self._decided_here: set[str] = set()
        self._to_leave: deque[Settlement] = deque(maxlen=_KEPT)

    async def exchange(self, claims: Sequence[Claim], settlements: Sequence[Settlement]) -> list[Verdict]:
        own = [each for each in settlements if each.id in self._decided_here]
        if own:
            self._decided_here -= {each.id for each in own}
            await self._own.exchange((), own)
        # Their slots in the store too: a renewal may have taken them, or a claim whose answer was lost.
        owed = [*self._to_leave, *_slots_alone(own)]
        owed += [each for each in settlements if each not in own] if own else settlements
        if not (claims or owed):
            return []
        if self._clock() >= self._away_until:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    verdicts = await self._shared.exchange(claims, owed)
            except (StoreUnavailable, TimeoutError) as error:
                self._lost(error)
            else:
                self._found()
                self._to_leave.clear()
                return verdicts
        self._to_leave = deque(_slots_alone(owed), maxlen=_KEPT)
        return await self._alone(claims)

    async def renew(self, leases: Sequence[Lease]) -> None:
        await self._own.renew([lease for lease in leases if lease.holder in self._decided_here])
        if self._clock() < self._away_until:
            return
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._shared.renew(leases)
        except (StoreUnavailable, TimeoutError) as error:
            self._lost(error)
        else:
            self._found()

    async def _alone(self, claims: Sequence[Claim]) -> list[Verdict]:
        if not claims:
            return []
        self._observer.limits_unshared(len(claims))
        verdicts = await self._own.exchange(claims, ())
        for claim, verdict in zip(claims, verdicts, strict=True):
            if verdict.granted:
                self._decided_here.add(claim.id)
            elif claim.slots:  # which the store may have given all the same
                self._to_leave.append(_leaving(claim))
        return verdicts

    def _lost(self, error: Exception) -> None:
        if not self._pause_s:
            _log.warning("limits not shared", reason=type(error.__cause__ or error).__name__)
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s or FIRST_PAUSE_S)
        self._away_until = self._clock() + self._pause_s

    def _found(self) -> None:
        if self._pause_s:
            _log.info("limits shared again")
        self._pause_s = 0.0


def _slots_alone(settlements: Sequence[Settlement]) -> list[Settlement]:
    return [
        Settlement(id=each.id, tenant=each.tenant, returns=(), slots=each.slots)
        for each in settlements
        if each.slots
    ]


def _leaving(claim: Claim) -> Settlement:
    names = tuple(slots.name for slots in claim.slots)
    return Settlement(id=claim.id, tenant=claim.tenant, returns=(), slots=names)
