"""What every store of buckets must do: run against the one in memory and the one in a real Redis."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from triplane.adapters.redis.buckets import RedisBuckets
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.ids import new_id
from triplane.domain.limits import Claim, Draw, Lease, Return, Settlement, Slots, Verdict
from triplane.inference.buckets import Buckets, MemoryBuckets
from waiting import until

LEASE_S = 0.5
NewBuckets = Callable[[], Buckets]
EXAMPLES = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(params=["memory", "redis"])
def new_buckets(request: pytest.FixtureRequest) -> NewBuckets:
    """Another way to the same store: for Redis, as another process has it."""
    if request.param == "memory":
        one = MemoryBuckets(lease_s=LEASE_S)
        return lambda: one
    client: RedisPipeline = request.getfixturevalue("redis_pipeline")
    return lambda: RedisBuckets(client, LEASE_S)


@pytest.fixture
def buckets(new_buckets: NewBuckets) -> Buckets:
    return new_buckets()


def draw(name: str, amount: float, *, capacity: float = 10, rate: float = 1e-6) -> Draw:
    """From a bucket that doesn't fill noticeably while a test runs, unless a `rate` is given."""
    return Draw(f"{{t}}:{name}", amount, rate, capacity)


def slots(name: str, limit: int) -> Slots:
    return Slots(f"{{t}}:{name}", limit)


def claim(*parts: Draw | Slots) -> Claim:
    return Claim(
        id=new_id("claim"),
        tenant="t",
        draws=tuple(part for part in parts if isinstance(part, Draw)),
        slots=tuple(part for part in parts if isinstance(part, Slots)),
    )


def settlement(taken: Claim, *, left: float = 1.0) -> Settlement:
    """The end of a claim of which this share wasn't needed: all of it, by default."""
    return Settlement(
        id=taken.id,
        tenant=taken.tenant,
        returns=tuple(Return(each.name, each.amount * left, each.rate) for each in taken.draws),
        slots=tuple(each.name for each in taken.slots),
    )


async def asked(buckets: Buckets, *parts: Draw | Slots) -> Verdict:
    (verdict,) = await buckets.exchange([claim(*parts)], [])
    return verdict


async def granted(buckets: Buckets, *parts: Draw | Slots) -> bool:
    return (await asked(buckets, *parts)).granted


async def test_a_bucket_gives_what_it_holds_and_no_more(buckets: Buckets) -> None:
    assert [await granted(buckets, draw("a", 4)) for _ in range(3)] == [True, True, False]
    assert await granted(buckets, draw("a", 2))
    assert not await granted(buckets, draw("a", 1))


async def test_a_claim_takes_from_all_or_from_none(buckets: Buckets) -> None:
    assert not await granted(buckets, draw("a", 1), draw("b", 11), slots("s", 1))
    assert not await granted(buckets, draw("b", 11), draw("a", 1))
    await asked(buckets, slots("full", 1))
    assert not await granted(buckets, draw("a", 1), slots("full", 1), slots("s", 1))

    verdict = await asked(buckets, draw("a", 10), slots("s", 1))
    assert verdict.granted
    assert verdict.in_use == [1]


async def test_a_verdict_tells_what_is_left_and_who_is_in(buckets: Buckets) -> None:
    first = await asked(buckets, draw("a", 4), draw("b", 1), slots("s", 1))
    assert first.levels == pytest.approx([6, 9], abs=0.01)
    assert first.in_use == [1]

    refused = await asked(buckets, draw("a", 4), draw("b", 1), slots("s", 1))
    assert not refused.granted
    assert refused.levels == pytest.approx([6, 9], abs=0.01)
    assert refused.in_use == [1]


async def test_a_draw_of_nothing_from_a_bucket_is_always_granted_unless_it_owes(buckets: Buckets) -> None:
    assert await granted(buckets, draw("a", 0))
    taken = claim(draw("a", 10))
    await buckets.exchange([taken], [])
    assert await granted(buckets, draw("a", 0))
    await buckets.exchange([], [settlement(taken, left=-1)])
    assert not await granted(buckets, draw("a", 0))


async def test_a_bucket_that_gets_back_more_than_it_lacks_is_only_full(buckets: Buckets) -> None:
    taken = claim(draw("a", 4))
    await buckets.exchange([taken], [])
    await buckets.exchange([], [settlement(taken), settlement(taken), settlement(taken)])

    assert (await asked(buckets, draw("a", 0))).levels == pytest.approx([10])


async def test_what_was_needed_more_is_owed(buckets: Buckets) -> None:
    taken = claim(draw("a", 8))
    await buckets.exchange([taken], [])
    await buckets.exchange([], [settlement(taken, left=-1)])

    assert (await asked(buckets, draw("a", 1))).levels == pytest.approx([-6], abs=0.01)


async def test_a_slot_that_was_left_is_free_for_a_claim_of_the_same_exchange(buckets: Buckets) -> None:
    first, second = claim(slots("s", 1)), claim(slots("s", 1))
    await buckets.exchange([first], [])
    (verdict,) = await buckets.exchange([second], [settlement(first)])
    assert verdict.granted


async def test_claims_of_one_exchange_are_decided_in_order(buckets: Buckets) -> None:
    verdicts = await buckets.exchange([claim(draw("a", 6)), claim(draw("a", 6)), claim(draw("a", 4))], [])
    assert [verdict.granted for verdict in verdicts] == [True, False, True]


async def test_one_exchange_serves_many_tenants(buckets: Buckets) -> None:
    def of_tenant(tenant: str, amount: float) -> Claim:
        parts = (Draw(f"{{{tenant}}}:a", amount, 1e-6, 10),)
        return Claim(id=new_id("claim"), tenant=tenant, draws=parts, slots=())

    first = [of_tenant("one", 8), of_tenant("two", 9)]
    await buckets.exchange(first, [])
    verdicts = await buckets.exchange(
        [of_tenant("two", 9), of_tenant("three", 9)], [settlement(taken) for taken in first]
    )
    assert [verdict.granted for verdict in verdicts] == [True, True]
    (again,) = await buckets.exchange([of_tenant("one", 10)], [])
    assert again.granted


async def test_the_slots_of_a_holder_that_is_silent_come_back(buckets: Buckets) -> None:
    assert await granted(buckets, slots("s", 1))
    assert not await granted(buckets, slots("s", 1))
    await until(lambda: granted(buckets, slots("s", 1)))


async def test_a_holder_that_renews_keeps_its_slot(buckets: Buckets) -> None:
    holder = claim(slots("s", 1))
    await buckets.exchange([holder], [])
    began = time.monotonic()
    while time.monotonic() < began + 2 * LEASE_S:
        await buckets.renew([Lease(holder.slots[0].name, holder.id)])
        assert not await granted(buckets, slots("s", 1))
        await asyncio.sleep(LEASE_S / 20)
    await buckets.exchange([], [settlement(holder)])
    assert await granted(buckets, slots("s", 1))


async def test_a_bucket_fills_by_its_rate_and_never_gives_more(buckets: Buckets) -> None:
    rate, capacity, given = 200.0, 5.0, 0
    began = time.monotonic()
    while time.monotonic() < began + 0.3:
        given += await granted(buckets, draw("a", 1, rate=rate, capacity=capacity))
        lasted = time.monotonic() - began
        assert given <= capacity + rate * lasted + 1e-6
    assert given > capacity + 0.3 * rate / 2


async def test_many_at_once_get_what_there_is_and_no_more(new_buckets: NewBuckets) -> None:
    """Two processes ask for the last of it at the same time."""
    workers = [new_buckets(), new_buckets()]
    asks = [granted(workers[place % 2], draw("a", 1), slots("s", 7)) for place in range(40)]
    assert sum(await asyncio.gather(*asks)) == 7


async def test_full_buckets_and_free_slots_take_no_room_in_redis(
    redis_client: redis.asyncio.Redis, redis_pipeline: RedisPipeline
) -> None:
    buckets = RedisBuckets(redis_pipeline, LEASE_S)
    taken = claim(draw("a", 2, rate=1.0), slots("s", 1))
    await buckets.exchange([taken], [])
    lifetimes = [await redis_client.pttl(key) for key in await redis_client.keys()]
    assert len(lifetimes) == 2
    assert all(0 < lifetime <= 2000 for lifetime in lifetimes)

    await buckets.exchange([], [settlement(taken)])
    assert await redis_client.keys() == []


@dataclass
class Known:
    """What the machine knows: what is left in each bucket, who is inside, what hasn't ended."""

    left: dict[str, float] = field(default_factory=dict)
    inside: dict[str, int] = field(default_factory=dict)
    open: list[Claim] = field(default_factory=list)


CAPACITY = {"a": 10.0, "b": 25.0, "c": 3.0}
LIMIT = {"s": 2, "t": 4}
AMOUNTS = st.dictionaries(st.sampled_from(sorted(CAPACITY)), st.integers(0, 12), max_size=3)
TAKEN_SLOTS = st.sets(st.sampled_from(sorted(LIMIT)), max_size=2)


class BucketMachine(RuleBasedStateMachine):
    """Claims and settlements in any order, beside a model in whole numbers."""

    def __init__(
        self, buckets: Buckets, run: Callable[[Coroutine[Any, Any, list[Verdict]]], list[Verdict]]
    ) -> None:
        super().__init__()
        self.buckets, self.run, self.known = buckets, run, Known()
        self.prefix = new_id("tenant")

    @rule(amounts=AMOUNTS, inside=TAKEN_SLOTS)
    def ask(self, amounts: dict[str, int], inside: set[str]) -> None:
        new = self._claim(amounts, inside)
        (verdict,) = self.run(self.buckets.exchange([new], []))
        fits = all(self._left(name) >= amount for name, amount in amounts.items())
        has_room = all(self._inside(name) < LIMIT[name] for name in inside)
        assert verdict.granted == (fits and has_room)
        if verdict.granted:
            self._take(new, amounts, inside)
        assert verdict.levels == pytest.approx([self._left(name) for name in amounts], abs=0.01)
        assert verdict.in_use == [self._inside(name) for name in sorted(inside)]

    @precondition(lambda self: self.known.open)
    @rule(data=st.data(), left=st.sampled_from([1.0, 0.5, 0.0, -1.0]), times=st.integers(1, 2))
    def end(self, data: st.DataObject, left: float, times: int) -> None:
        """A settlement that comes twice fills no bucket over its capacity."""
        ended = data.draw(st.sampled_from(self.known.open))
        self.known.open.remove(ended)
        self.run(self.buckets.exchange([], [settlement(ended, left=left)] * times))
        for each in ended.draws:
            name = each.name.rpartition(":")[2]
            for _ in range(times):
                self.known.left[name] = min(CAPACITY[name], self._left(name) + each.amount * left)
        for taken in ended.slots:
            self.known.inside[taken.name.rpartition(":")[2]] -= 1

    @invariant()
    def nothing_is_over_its_capacity(self) -> None:
        new = self._claim(dict.fromkeys(CAPACITY, 0), set())
        (verdict,) = self.run(self.buckets.exchange([new], []))
        expected = [self._left(name) for name in CAPACITY]
        assert verdict.levels == pytest.approx(expected, abs=0.01)
        assert all(level <= CAPACITY[name] for name, level in zip(CAPACITY, verdict.levels, strict=True))

    def _claim(self, amounts: dict[str, int], inside: set[str]) -> Claim:
        draws = (Draw(self._name(name), amount, 1e-6, CAPACITY[name]) for name, amount in amounts.items())
        taken = (Slots(self._name(name), LIMIT[name]) for name in sorted(inside))
        return Claim(id=new_id("claim"), tenant=self.prefix, draws=tuple(draws), slots=tuple(taken))

    def _name(self, name: str) -> str:
        return f"{{{self.prefix}}}:{name}"

    def _left(self, name: str) -> float:
        return self.known.left.get(name, CAPACITY[name])

    def _inside(self, name: str) -> int:
        return self.known.inside.get(name, 0)

    def _take(self, new: Claim, amounts: dict[str, int], inside: set[str]) -> None:
        self.known.open.append(new)
        for name, amount in amounts.items():
            self.known.left[name] = self._left(name) - amount
        for name in inside:
            self.known.inside[name] = self._inside(name) + 1


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_buckets_keep_their_promises_in_any_order(kind: str, redis_pipeline: RedisPipeline) -> None:
    loop = asyncio.get_running_loop()
    buckets = MemoryBuckets() if kind == "memory" else RedisBuckets(redis_pipeline, 60.0)

    class Machine(BucketMachine):
        def __init__(self) -> None:
            super().__init__(buckets, lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(20))

    await asyncio.to_thread(run_state_machine_as_test, Machine, settings=EXAMPLES)
