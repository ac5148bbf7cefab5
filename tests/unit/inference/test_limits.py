"""Reservations against limits: which apply, what comes back, how long to wait. The clock is the test's."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from limit_examples import FLOW, Counted, per_user
from triplane.domain.completion import Flow
from triplane.domain.errors import OverLimit, Overloaded, RateLimited
from triplane.domain.events import Usage
from triplane.domain.limits import DEFAULT_PLAN, Claim, Limits, LimitState, Settlement, Verdict
from triplane.inference.buckets import LEASE_S, MemoryBuckets
from triplane.inference.limit_policy import LimitPolicy, PlanLimits
from triplane.inference.limits import Limiter, Reservation


class Scene:
    """A limiter over this process's buckets, at a time that the test sets."""

    def __init__(self, policy: LimitPolicy) -> None:
        self.now = 1000.0
        self.counted = Counted()
        self.buckets = MemoryBuckets(clock=lambda: self.now)
        self.limiter = Limiter(self.buckets, policy, self.counted)

    async def reserve(self, tokens: int = 0, flow: Flow = FLOW, model: str = "model") -> Reservation:
        return await self.limiter.reserve(flow, model, tokens)

    async def refused(self, tokens: int = 0, flow: Flow = FLOW, model: str = "model") -> RateLimited:
        with pytest.raises(RateLimited) as caught:
            await self.reserve(tokens, flow, model)
        return caught.value


def used(tokens: int) -> Usage:
    return Usage(prompt_tokens=tokens)


async def remaining(scene: Scene) -> tuple[int, int]:
    """Requests and tokens that are left, asked for without taking any."""
    reservation = await scene.reserve()
    reservation.refund()
    assert reservation.limits.requests
    assert reservation.limits.tokens
    return reservation.limits.requests.remaining + 1, reservation.limits.tokens.remaining


async def test_what_was_not_used_comes_back_and_the_request_counts() -> None:
    scene = Scene(per_user(requests=10, tokens=1000))
    (await scene.reserve(600)).settle(used(100))
    assert await remaining(scene) == (9, 900)


async def test_a_refund_gives_all_of_it_back() -> None:
    scene = Scene(per_user(requests=10, tokens=1000))
    (await scene.reserve(600)).refund()
    assert await remaining(scene) == (10, 1000)


async def test_what_was_used_more_is_owed_and_waited_for() -> None:
    scene = Scene(per_user(requests=10, tokens=600))
    (await scene.reserve(100)).settle(used(1200))
    assert await remaining_tokens_wait(scene) == pytest.approx(60, abs=0.1)


async def remaining_tokens_wait(scene: Scene) -> float:
    return (await scene.refused(0)).retry_after_s


async def test_only_the_first_end_of_a_reservation_counts() -> None:
    scene = Scene(per_user(requests=10, tokens=1000))
    reservation = await scene.reserve(600)
    reservation.settle(used(100))
    reservation.refund()
    reservation.settle(used(500))
    assert await remaining(scene) == (9, 900)


async def test_leaving_the_block_refunds_what_was_not_settled() -> None:
    scene = Scene(per_user(requests=10, tokens=1000))
    with pytest.raises(ZeroDivisionError), await scene.reserve(600):
        raise ZeroDivisionError
    with await scene.reserve(600) as reservation:
        reservation.settle(used(200))
    assert await remaining(scene) == (9, 800)


@settings(deadline=None)
@given(
    requests=st.integers(1, 10_000),
    tokens=st.integers(100, 10**7),
    burst_s=st.sampled_from([6.0, 60.0, 600.0]),
    asks=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5)), min_size=1, max_size=30),
)
def test_waiting_as_long_as_was_said_is_enough_and_less_is_not(
    requests: int, tokens: int, burst_s: float, asks: Sequence[tuple[float, float]]
) -> None:
    asyncio.run(_ask_and_wait(requests, tokens, burst_s, asks))


async def _ask_and_wait(
    requests: int, tokens: int, burst_s: float, asks: Sequence[tuple[float, float]]
) -> None:
    scene = Scene(per_user(requests=requests, tokens=tokens, burst_s=burst_s))
    for share, pause_s in asks:
        needed = int(share * tokens * burst_s / 60)
        try:
            await scene.reserve(needed)
        except RateLimited as refusal:
            scene.now += refusal.retry_after_s - 0.01
            if refusal.retry_after_s > 0.02:
                await scene.refused(needed)
            scene.now += 0.01
            await scene.reserve(needed)
        scene.now += pause_s


async def test_a_refusal_says_how_the_caller_stands_and_what_to_do() -> None:
    scene = Scene(per_user(requests=2, tokens=1000))
    for _ in range(2):
        await scene.reserve(10)
    refusal = await scene.refused(10)
    assert refusal.retry_after_s == pytest.approx(30, abs=0.1)
    assert "requests a minute for your account, 2, is reached" in refusal.message
    assert refusal.limits
    assert refusal.limits.requests
    assert (refusal.limits.requests.limit, refusal.limits.requests.remaining) == (2, 0)
    assert refusal.limits.requests.reset_s == pytest.approx(60)
    assert scene.counted.refused == {("user", "requests"): 1}


async def test_the_longest_of_several_waits_is_told() -> None:
    scene = Scene(per_user(requests=60, tokens=60, burst_s=1.0))
    await scene.reserve(1)
    scene.limiter.policy = per_user(requests=60, tokens=6, burst_s=10.0)
    assert (await scene.refused(1)).retry_after_s == pytest.approx(1, abs=0.01)


async def test_a_request_that_no_full_bucket_has_room_for_is_told_so_and_not_to_wait() -> None:
    scene = Scene(per_user(tokens=1000))
    with pytest.raises(OverLimit, match="1,001 tokens"):
        await scene.reserve(1001)
    await scene.reserve(1000)


async def test_the_tightest_scope_is_reported() -> None:
    plan = PlanLimits(
        requests_per_minute=100,
        per_key=Limits(requests_per_minute=50),
        per_organisation=Limits(requests_per_minute=1000),
        per_model=Limits(tokens_per_minute=500),
    )
    scene = Scene(LimitPolicy(plans={DEFAULT_PLAN: plan}))
    limits = (await scene.reserve(100)).limits
    assert limits.requests
    assert (limits.requests.limit, limits.requests.remaining) == (50, 49)
    assert limits.tokens
    assert (limits.tokens.limit, limits.tokens.remaining) == (500, 400)


async def test_many_keys_of_a_user_share_the_users_limit() -> None:
    scene = Scene(per_user(requests=3))
    for key in ("key_1", "key_2", None):
        await scene.reserve(flow=msgspec.structs.replace(FLOW, api_key=key))
    await scene.refused(flow=msgspec.structs.replace(FLOW, api_key="key_4"))
    await scene.reserve(flow=msgspec.structs.replace(FLOW, user="user_2"))


async def test_users_of_an_organisation_share_its_limit_and_others_do_not() -> None:
    plan = PlanLimits(per_organisation=Limits(requests_per_minute=2))
    scene = Scene(LimitPolicy(plans={DEFAULT_PLAN: plan}))
    for user in ("user_1", "user_2"):
        await scene.reserve(flow=msgspec.structs.replace(FLOW, user=user))
    await scene.refused(flow=msgspec.structs.replace(FLOW, user="user_3"))
    await scene.reserve(flow=msgspec.structs.replace(FLOW, tenant="tenant_2"))
    assert scene.counted.refused == {("organisation", "requests"): 1}


async def test_a_model_may_have_limits_of_its_own() -> None:
    scene = Scene(per_user(models={"large": Limits(requests_per_minute=1)}))
    await scene.reserve(model="large")
    await scene.refused(model="large")
    await scene.reserve(model="small")
    assert scene.counted.refused == {("model", "requests"): 1}


async def test_a_plan_that_is_gone_leaves_its_users_with_the_default_one() -> None:
    scene = Scene(per_user(requests=1))
    gone = msgspec.structs.replace(FLOW, plan="gone")
    await scene.reserve(flow=gone)
    await scene.refused(flow=gone)


async def test_without_limits_nothing_is_asked_and_nothing_told() -> None:
    scene = Scene(LimitPolicy())
    assert (await scene.reserve(10**9)).limits == LimitState()
    assert len(scene.buckets) == 0


def test_all_keys_of_a_request_lie_on_one_node_of_a_cluster() -> None:
    some = Limits(requests_per_minute=1, tokens_per_minute=1, concurrent=1)
    plan = PlanLimits(requests_per_minute=1, per_key=some, per_organisation=some, per_model=some)
    policy = LimitPolicy(plans={DEFAULT_PLAN: plan}, models={"model": some})
    for flow in (FLOW, Flow()):
        names = [rule.name for rule in policy.rules(flow, "model")]
        assert len(set(names)) == len(names) > 9
        assert len({key_slot(f"limits:{name}".encode()) for name in names}) == 1


async def test_a_slot_is_held_until_the_reservation_ends() -> None:
    scene = Scene(per_user(concurrent=1))
    reservation = await scene.reserve()
    refusal = await scene.refused()
    assert "requests at once for your account, 1, is reached" in refusal.message
    assert 1 <= refusal.retry_after_s <= LEASE_S
    reservation.settle(Usage())
    (await scene.reserve()).refund()
    await scene.reserve()


async def test_open_reservations_are_renewed_and_forgotten_ones_lapse() -> None:
    scene = Scene(per_user(concurrent=2))
    kept, forgotten = await scene.reserve(), await scene.reserve()
    del forgotten
    for _ in range(4):
        scene.now += LEASE_S / 2
        await scene.limiter.renew()
    await scene.reserve()
    await scene.refused()
    kept.refund()


async def test_a_caller_that_goes_away_while_it_waits_has_taken_nothing() -> None:
    scene = Scene(per_user(requests=5, tokens=100, concurrent=5))
    held = HeldBuckets(scene.buckets)
    limiter = Limiter(held, scene.limiter.policy, scene.counted)
    running = asyncio.create_task(limiter.run())
    asking = asyncio.create_task(limiter.reserve(FLOW, "model", 50))
    await held.asked.wait()
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    held.answer.set()
    waiting = await limiter.reserve(FLOW, "model", 100)
    assert waiting.limits.requests
    assert waiting.limits.requests.remaining == 4
    running.cancel()
    await asyncio.wait((running,))


@pytest.mark.parametrize("steps", range(12))
async def test_a_caller_that_goes_away_at_any_moment_keeps_nothing(steps: int) -> None:
    scene = Scene(per_user(requests=5, tokens=100, concurrent=1))
    running = asyncio.create_task(scene.limiter.run())

    async def ask_and_refund() -> None:
        (await scene.reserve(50)).refund()

    asking = asyncio.create_task(ask_and_refund())
    for _ in range(steps):
        await asyncio.sleep(0)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    assert (await scene.reserve(100)).limits.requests
    running.cancel()
    await asyncio.wait((running,))


class HeldBuckets:
    """Answers when it is let."""

    def __init__(self, buckets: MemoryBuckets) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self.exchanges: list[int] = []
        self._buckets = buckets
        self.renew = buckets.renew

    async def exchange(self, claims: Sequence[Claim], settlements: Sequence[Settlement]) -> list[Verdict]:
        self.exchanges.append(len(claims))
        self.asked.set()
        await self.answer.wait()
        return await self._buckets.exchange(claims, settlements)


async def test_all_that_wait_are_asked_for_together() -> None:
    scene = Scene(per_user(requests=100))
    held = HeldBuckets(scene.buckets)
    limiter = Limiter(held, scene.limiter.policy, scene.counted)
    running = asyncio.create_task(limiter.run())
    first = asyncio.create_task(limiter.reserve(FLOW, "model", 0))
    await held.asked.wait()
    rest = [asyncio.create_task(limiter.reserve(FLOW, "model", 0)) for _ in range(20)]
    await asyncio.sleep(0)
    held.answer.set()
    await asyncio.gather(first, *rest)
    assert held.exchanges == [1, 20]
    running.cancel()
    await asyncio.wait((running,))


async def test_who_waits_when_the_limiter_stops_is_told_to_try_again() -> None:
    scene = Scene(per_user(requests=100))
    held = HeldBuckets(scene.buckets)
    limiter = Limiter(held, scene.limiter.policy, scene.counted)
    running = asyncio.create_task(limiter.run())
    asking = asyncio.create_task(limiter.reserve(FLOW, "model", 0))
    await held.asked.wait()
    running.cancel()
    with pytest.raises(Overloaded):
        await asking


def test_a_catalogue_can_embed_the_limits_and_what_is_wrong_is_named() -> None:
    class Plan(PlanLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
        weight: int = 1

    plan = msgspec.toml.decode(
        b"weight = 4\nrequests_per_minute = 20\n[per_organisation]\ntokens_per_minute = 9\n", type=Plan
    )
    assert (plan.weight, plan.requests_per_minute) == (4, 20)
    assert plan.per_organisation == Limits(tokens_per_minute=9)
    for wrong in (b"requests_per_minut = 1", b"requests_per_minute = 0", b"[per_key]\nburst_s = 0"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.toml.decode(wrong, type=Plan)
