"""Limits of requests, tokens and concurrency: reserve before, settle after, refund on failure.

`Limiter.reserve` takes what a request may need from all buckets that apply to it, or nothing. One task asks
the store for all requests that wait at that moment, and tells it what has ended, in one round trip; so an
idle process answers at once, and a busy one pays little for each.

After a crash nothing leaks: slots are leases and lapse, and what was drawn from a bucket fills up again.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self
from weakref import WeakSet

import msgspec

from triplane.domain.completion import Flow
from triplane.domain.errors import OverLimit, Overloaded, RateLimited
from triplane.domain.events import Usage
from triplane.domain.ids import new_id
from triplane.domain.limits import (
    Claim,
    Draw,
    Lease,
    LimitKind,
    LimitState,
    Quota,
    Return,
    Scope,
    Settlement,
    Slots,
    Verdict,
)
from triplane.inference.buckets import LEASE_S, Buckets
from triplane.inference.limit_policy import LimitPolicy, Rule

RENEW_EVERY_S = LEASE_S / 3

_AT_ONCE = 256
"""How many claims go to the store together."""

_ENDED = 100_000
"""Settlements that may wait; the oldest are dropped first, and their buckets fill up by time."""

_MARGIN_S = 0.001
"""What is added to a wait, so that it is long enough in spite of the store's clock's microseconds."""

_WHOSE: dict[Scope, str] = {
    "user": "your account",
    "key": "this API key",
    "organisation": "your organisation",
    "model": "this model",
}


class LimitObserver(Protocol):
    def request_limited(self, scope: Scope, kind: LimitKind) -> None:
        """A request was refused; of several limits that it would have broken, for the longest wait."""
        ...


class _Taken(msgspec.Struct, frozen=True):
    """A granted claim, and what each of its draws is of."""

    claim: Claim
    kinds: tuple[LimitKind, ...]

    def settlement(self, used: Mapping[LimitKind, int]) -> Settlement:
        returns = tuple(
            Return(draw.name, left, draw.rate)
            for draw, kind in zip(self.claim.draws, self.kinds, strict=True)
            if (left := draw.amount - used[kind])
        )
        slots = tuple(each.name for each in self.claim.slots)
        return Settlement(id=self.claim.id, tenant=self.claim.tenant, returns=returns, slots=slots)


class Reservation:
    """What a request has taken, until it is settled or refunded: whichever comes first counts.

    As a context manager it refunds on leaving what hasn't been settled. One that is dropped without either
    keeps what it took; its slots lapse.
    """

    def __init__(self, limits: LimitState, taken: "_Taken | None", limiter: "Limiter") -> None:
        self.limits = limits
        self._taken = taken
        self._limiter = limiter
        self._began = time.monotonic()

    @property
    def leases(self) -> list[Lease]:
        """The slots that it holds now."""
        claim = self._taken.claim if self._taken else None
        return [Lease(slots.name, claim.id) for slots in claim.slots] if claim else []

    def settle(self, usage: Usage) -> None:
        """The request has cost so much: put back what it had taken more, take what it had taken less."""
        self._end({"requests": 1, "tokens": usage.total_tokens})

    def refund(self) -> None:
        """Nothing was computed: put everything back."""
        self._end({"requests": 0, "tokens": 0})

    def _end(self, used: Mapping[LimitKind, int]) -> None:
        taken, self._taken = self._taken, None
        if taken:
            self._limiter.end(self, taken.settlement(used), time.monotonic() - self._began)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refund()


class Limiter:
    """Keeps the limits of `policy`, which may be replaced at any time.

    `run` serves until it is cancelled; whoever builds this owns that task. Without it every call asks the
    store for itself. `buckets` must not fail (`SharedBuckets`).
    """

    def __init__(
        self,
        buckets: Buckets,
        policy: LimitPolicy,
        observer: LimitObserver,
        *,
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        self.policy = policy
        self._renew_every_s = renew_every_s
        self._buckets = buckets
        self._observer = observer
        self._waiting: deque[tuple[_Taken, asyncio.Future[Verdict]]] = deque()
        self._ended: deque[Settlement] = deque(maxlen=_ENDED)
        self._open: WeakSet[Reservation] = WeakSet()
        self._work = asyncio.Event()
        self._is_running = False
        self._held_s = 1.0

    async def reserve(self, flow: Flow, model: str, tokens: int) -> Reservation:
        """Take one request and so many tokens, by an estimate, and a slot.

        Raises RateLimited, with nothing taken: after `retry_after_s` the same succeeds, if nobody else asks
        meanwhile (when a slot is free can't be known; then it is an estimate). Raises OverLimit if a full
        bucket hasn't so many tokens.
        """
        rules = self.policy.rules(flow, model)
        if not rules:
            return Reservation(LimitState(), None, self)
        draws = [rule for rule in rules if rule.kind != "concurrent"]
        slots = [rule for rule in rules if rule.kind == "concurrent"]
        claim = Claim(
            id=new_id("claim"),
            tenant=flow.tenant,
            draws=tuple(_draw(rule, tokens) for rule in draws),
            slots=tuple(Slots(rule.name, rule.limit) for rule in slots),
        )
        taken = _Taken(claim, tuple(rule.kind for rule in draws))
        verdict = await self._decided(taken)
        state = LimitState(
            requests=_tightest("requests", draws, verdict), tokens=_tightest("tokens", draws, verdict)
        )
        if not verdict.granted:
            raise self._refusal(claim, draws, slots, verdict, state)
        reservation = Reservation(state, taken, self)
        self._open.add(reservation)
        return reservation

    def end(self, reservation: Reservation, settlement: Settlement, held_s: float) -> None:
        """For `Reservation` alone: tell the store soon."""
        self._open.discard(reservation)
        self._held_s += (held_s - self._held_s) / 16
        if settlement.returns or settlement.slots:
            self._ended.append(settlement)
            self._work.set()

    async def run(self) -> None:
        """Serve what waits and renew the slots that are held, for as long as this process lives."""
        self._is_running = True
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + self._renew_every_s
        waker = loop.call_at(renew_at, self._work.set)
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._waiting or self._ended:
                    await self._exchange()
                if loop.time() >= renew_at:
                    await self.renew()
                    renew_at = loop.time() + self._renew_every_s
                    waker = loop.call_at(renew_at, self._work.set)
        finally:
            self._is_running = False
            waker.cancel()
            self._give_up()

    async def renew(self) -> None:
        """Hold the slots of all open reservations for longer. `run` does it now and then."""
        leases = [lease for reservation in self._open for lease in reservation.leases]
        if leases:
            await self._buckets.renew(leases)

    async def drain(self, within_s: float) -> None:
        """Tell the store what has ended, for so long at most: before the process ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._ended:
                    await self._exchange()

    async def _decided(self, taken: _Taken) -> Verdict:
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((taken, verdict))
        try:
            if self._is_running:
                self._work.set()
            else:
                await self._exchange()
            return await verdict
        except asyncio.CancelledError:
            if _is_granted(verdict):  # in the moment in which whoever asked went away
                Reservation(LimitState(), taken, self).refund()
            raise
        finally:
            verdict.cancel()

    async def _exchange(self) -> None:
        """One round trip to the store."""
        settlements = [self._ended.popleft() for _ in range(min(_AT_ONCE, len(self._ended)))]
        waiting = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        try:
            verdicts = await self._buckets.exchange([taken.claim for taken, _ in waiting], settlements)
        except BaseException:
            self._waiting.extendleft(reversed(waiting))
            raise
        for (taken, future), verdict in zip(waiting, verdicts, strict=True):
            if not future.done():
                future.set_result(verdict)
            elif verdict.granted:  # whoever asked has gone away meanwhile
                Reservation(LimitState(), taken, self).refund()

    def _give_up(self) -> None:
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(Overloaded("This server is stopping. Try again.", retry_after_s=1.0))
        self._waiting.clear()

    def _refusal(
        self, claim: Claim, draws: Sequence[Rule], slots: Sequence[Rule], verdict: Verdict, state: LimitState
    ) -> RateLimited | OverLimit:
        for rule, draw in zip(draws, claim.draws, strict=True):
            if draw.amount > rule.capacity:
                self._observer.request_limited(rule.scope, rule.kind)
                return _over_limit(rule, draw)
        waits = [
            ((draw.amount - level) / rule.rate + _MARGIN_S, rule)
            for rule, draw, level in zip(draws, claim.draws, verdict.levels, strict=True)
            if level < draw.amount
        ]
        waits += [
            (max(1.0, min(self._held_s / rule.limit, LEASE_S)), rule)
            for rule, used in zip(slots, verdict.in_use, strict=True)
            if used >= rule.limit
        ]
        wait_s, rule = max(waits, key=lambda wait: wait[0])
        self._observer.request_limited(rule.scope, rule.kind)
        return RateLimited(_sentence(rule, wait_s), retry_after_s=wait_s, limits=state)


def _is_granted(verdict: "asyncio.Future[Verdict]") -> bool:
    is_told = verdict.done() and not verdict.cancelled() and verdict.exception() is None
    return is_told and verdict.result().granted


def _draw(rule: Rule, tokens: int) -> Draw:
    return Draw(rule.name, tokens if rule.kind == "tokens" else 1, rule.rate, rule.capacity)


def _tightest(kind: LimitKind, rules: Sequence[Rule], verdict: Verdict) -> Quota | None:
    """Of the limits of this kind the one that leaves the least."""
    left = [(level, rule) for rule, level in zip(rules, verdict.levels, strict=True) if rule.kind == kind]
    if not left:
        return None
    level, rule = min(left, key=lambda each: each[0])
    return Quota(rule.limit, max(0, math.floor(level + 1e-6)), max(0.0, (rule.capacity - level) / rule.rate))


def _sentence(rule: Rule, wait_s: float) -> str:
    what = "requests at once" if rule.kind == "concurrent" else f"{rule.kind} a minute"
    return (
        f"The limit of {what} for {_WHOSE[rule.scope]}, {rule.limit:,}, is reached. "
        f"Try again in {math.ceil(wait_s)} s."
    )


def _over_limit(rule: Rule, draw: Draw) -> OverLimit:
    return OverLimit(
        f"This request may need {int(draw.amount):,} tokens, and {_WHOSE[rule.scope]} may have "
        f"{int(rule.capacity):,} at once ({rule.limit:,} a minute). Send less, or lower max_tokens.",
        param="max_tokens",
    )
