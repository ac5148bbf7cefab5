"""Shared buckets that come and go: nothing is charged twice or put back where it wasn't taken."""

from collections.abc import Sequence

import pytest

from limit_examples import Counted
from triplane.domain.errors import StoreUnavailable
from triplane.domain.ids import new_id
from triplane.domain.limits import Claim, Draw, Lease, Return, Settlement, Slots, Verdict
from triplane.inference.buckets import MemoryBuckets
from triplane.inference.shared_buckets import LONGEST_PAUSE_S, SharedBuckets


class Store:
    """A shared store. While it is `away` it fails: before it has done anything, or only with its answer."""

    def __init__(self, scene: "Scene") -> None:
        self.away = False
        self.loses_answers = False
        self.asked = 0
        self.buckets = MemoryBuckets(clock=lambda: scene.now)

    async def exchange(self, claims: Sequence[Claim], settlements: Sequence[Settlement]) -> list[Verdict]:
        self.asked += 1
        verdicts = [] if self.away else await self.buckets.exchange(claims, settlements)
        self._fail()
        return verdicts

    async def renew(self, leases: Sequence[Lease]) -> None:
        self._fail()
        await self.buckets.renew(leases)

    def _fail(self) -> None:
        if self.away or self.loses_answers:
            raise StoreUnavailable("It is away.")


class Scene:
    def __init__(self) -> None:
        self.now = 1000.0
        self.store = Store(self)
        self.counted = Counted()
        self.shared = SharedBuckets(self.store, self.counted, clock=lambda: self.now)

    async def ask(self, *settlements: Settlement) -> tuple[Claim, Verdict]:
        """One slot of one, and 4 of 10."""
        draws, slots = (Draw("{t}:a", 4, 1e-6, 10),), (Slots("{t}:s", 1),)
        claim = Claim(id=new_id("claim"), tenant="t", draws=draws, slots=slots)
        (verdict,) = await self.shared.exchange([claim], settlements)
        return claim, verdict

    async def end(self, claim: Claim) -> None:
        await self.shared.exchange([], [ended(claim)])

    async def in_the_store(self) -> tuple[float, int]:
        """What its bucket holds and who is in its slots, looked at without the fault."""
        looking = Claim(
            id="look", tenant="t", draws=(Draw("{t}:a", 11, 1e-6, 10),), slots=(Slots("{t}:s", 1),)
        )
        (verdict,) = await self.store.buckets.exchange([looking], [])
        return round(verdict.levels[0]), verdict.in_use[0]

    def wait(self) -> None:
        """Until the store is asked again."""
        self.now += LONGEST_PAUSE_S


def ended(claim: Claim) -> Settlement:
    returns = tuple(Return(each.name, each.amount, each.rate) for each in claim.draws)
    names = tuple(each.name for each in claim.slots)
    return Settlement(id=claim.id, tenant=claim.tenant, returns=returns, slots=names)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_while_the_store_is_away_this_process_decides_and_counts_that(scene: Scene) -> None:
    scene.store.away = True
    verdicts = [(await scene.ask())[1].granted for _ in range(3)]
    assert verdicts == [True, False, False]
    assert scene.counted.unshared == 3


async def test_a_store_that_is_away_is_left_alone_for_longer_and_longer(scene: Scene) -> None:
    scene.store.away = True
    for _ in range(100):
        await scene.ask()
        scene.now += 0.1
    assert scene.store.asked == 5  # after 0, 0.5, 1.5, 3.5 and 7.5 seconds
    scene.store.away = False
    scene.wait()
    await scene.ask()
    await scene.ask()
    assert scene.store.asked == 7


async def test_what_was_taken_here_is_put_back_here(scene: Scene) -> None:
    first, _ = await scene.ask()
    await scene.end(first)
    scene.store.away = True
    alone, _ = await scene.ask()
    scene.store.away = False
    scene.wait()
    in_store, _ = await scene.ask()
    assert await scene.in_the_store() == (6, 1)
    await scene.end(alone)
    assert await scene.in_the_store() == (6, 1)
    await scene.end(in_store)
    assert await scene.in_the_store() == (10, 0)


async def test_a_slot_that_was_taken_here_is_known_to_the_store_when_it_is_back(scene: Scene) -> None:
    scene.store.away = True
    alone, verdict = await scene.ask()
    assert verdict.granted
    scene.store.away = False
    scene.wait()
    await scene.shared.renew([Lease("{t}:s", alone.id)])
    assert not (await scene.ask())[1].granted
    await scene.end(alone)
    assert (await scene.ask())[1].granted


async def test_a_claim_whose_answer_was_lost_holds_no_slot_in_the_store(scene: Scene) -> None:
    scene.store.loses_answers = True
    lost, verdict = await scene.ask()
    assert verdict.granted  # by this process
    assert await scene.in_the_store() == (6, 1)
    scene.store.loses_answers = False
    await scene.end(lost)
    scene.wait()
    assert (await scene.ask())[1].granted


async def test_what_ends_while_the_store_is_away_is_no_error(scene: Scene) -> None:
    before, _ = await scene.ask()
    scene.store.away = True
    await scene.end(before)
    await scene.shared.renew([Lease("{t}:s", before.id)])
    assert await scene.shared.exchange([], []) == []
