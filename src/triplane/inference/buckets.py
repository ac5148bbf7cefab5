"""The store of buckets that limits are kept in: what it must do, and one in this process's memory.

Each bucket is one number, the time at which it will be full again (the theoretical arrival time of GCRA, the
generic cell rate algorithm of ITU-T I.371). To draw moves it later, to put back moves it earlier, and a time
that has passed is a full bucket, which needs no memory at all.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from triplane.domain.limits import Claim, Draw, Lease, Return, Settlement, Slots, Verdict

LEASE_S = 60.0
"""How long a slot is held without a word; its holder renews it three times as often."""

_SWEEP_S = 60.0
_ROUNDING = 1e-6
"""What adding and taking back fractions of a token may leave over."""


class Buckets(Protocol):
    async def exchange(self, claims: Sequence[Claim], settlements: Sequence[Settlement]) -> list[Verdict]:
        """Settle what has ended, then decide each claim in order, each wholly or not at all.

        A verdict for each claim. May raise StoreUnavailable: what was done then isn't known.
        """
        ...

    async def renew(self, leases: Sequence[Lease]) -> None:
        """Hold these slots for another `LEASE_S`. May raise StoreUnavailable."""
        ...


class MemoryBuckets:
    """The `Buckets` of one process. It never fails."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, lease_s: float = LEASE_S) -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._full_at: dict[str, float] = {}
        self._holders: dict[str, dict[str, float]] = {}
        self._sweep_at = 0.0

    def __len__(self) -> int:
        """How many buckets aren't full and slots are held, as far as that has been looked at."""
        return len(self._full_at) + len(self._holders)

    async def exchange(self, claims: Sequence[Claim], settlements: Sequence[Settlement]) -> list[Verdict]:
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep(now)
        for settlement in settlements:
            for returned in settlement.returns:
                self._put_back(returned, now)
            for name in settlement.slots:
                self._leave(name, settlement.id)
        return [self._decide(claim, now) for claim in claims]

    async def renew(self, leases: Sequence[Lease]) -> None:
        until = self._clock() + self._lease_s
        for lease in leases:
            self._holders.setdefault(lease.name, {})[lease.holder] = until

    def _decide(self, claim: Claim, now: float) -> Verdict:
        levels = [self._level(draw, now) for draw in claim.draws]
        in_use = [self._count(slots, now) for slots in claim.slots]
        granted = all(
            draw.amount <= level + _ROUNDING * draw.rate
            for draw, level in zip(claim.draws, levels, strict=True)
        ) and all(used < slots.limit for slots, used in zip(claim.slots, in_use, strict=True))
        if granted:
            for draw in claim.draws:
                later = max(now, self._full_at.get(draw.name, now)) + draw.amount / draw.rate
                self._full_at[draw.name] = later
            for slots in claim.slots:
                self._holders.setdefault(slots.name, {})[claim.id] = now + self._lease_s
            levels = [level - draw.amount for draw, level in zip(claim.draws, levels, strict=True)]
            in_use = [used + 1 for used in in_use]
        return Verdict(granted=granted, levels=levels, in_use=in_use)

    def _level(self, draw: Draw, now: float) -> float:
        full_at = self._full_at.get(draw.name, now)
        return draw.capacity - max(0.0, full_at - now) * draw.rate

    def _count(self, slots: Slots, now: float) -> int:
        holders = self._holders.get(slots.name, {})
        for holder in [holder for holder, until in holders.items() if until <= now]:
            del holders[holder]
        return len(holders)

    def _put_back(self, returned: Return, now: float) -> None:
        full_at = max(now, self._full_at.get(returned.name, now)) - returned.amount / returned.rate
        if full_at > now:
            self._full_at[returned.name] = full_at
        else:
            self._full_at.pop(returned.name, None)

    def _leave(self, name: str, holder: str) -> None:
        if holders := self._holders.get(name):
            holders.pop(holder, None)
            if not holders:
                del self._holders[name]

    def _sweep(self, now: float) -> None:
        """Forget what is full and who is gone."""
        self._sweep_at = now + _SWEEP_S
        self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        self._holders = {
            name: held
            for name, holders in self._holders.items()
            if (held := {holder: until for holder, until in holders.items() if until > now})
        }
