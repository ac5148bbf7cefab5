"""A route's slots and the queue in front of them, on a clock that jumps."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instant_loop import now, run_instantly, settle
from triplane.domain.completion import Flow
from triplane.domain.errors import EngineUnavailable, Overloaded
from triplane.inference.admission import LONGEST_LINE_S, Admission, QueueLimits, Slot

LIGHT, HEAVY = Flow(user="light", plan="free"), Flow(user="heavy", plan="free")


def admission(slots: int | None, *, queue: int = 100, max_wait_s: float = 1e6) -> Admission:
    limits = QueueLimits(queue=queue, max_wait_s=max_wait_s)
    return Admission(lambda: slots, limits, {"free": 1.0, "pro": 4.0}, now)


def enter(room: Admission, flow: Flow = LIGHT) -> "asyncio.Task[Slot]":
    return asyncio.create_task(room.enter(flow, 10))


async def learned(room: Admission, held_s: float) -> None:
    """The admission has seen that slots are held for so long."""
    slot = await room.enter(LIGHT, 10)
    await asyncio.sleep(held_s)
    slot.release(10)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from("abc"), st.sampled_from(["free", "pro"])),
        st.tuples(st.sampled_from(["release", "cancel"]), st.integers(0, 30), st.just("")),
        st.tuples(st.sampled_from(["sleep", "resize"]), st.integers(0, 4), st.just("")),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(operations, st.integers(1, 3), st.integers(0, 4))
def test_slots_are_never_exceeded_and_none_is_lost(
    steps: list[tuple[str, str | int, str]], slots: int, queue: int
) -> None:
    async def live_through() -> None:
        size = slots
        limits = QueueLimits(queue=queue, max_wait_s=5)
        room = Admission(lambda: size, limits, {"free": 1.0, "pro": 4.0}, now)
        tasks: list[asyncio.Task[Slot]] = []
        released: set[int] = set()
        for what, which, plan in steps:
            held_before, size_before = room.held, size
            if what == "enter":
                tasks.append(enter(room, Flow(user=str(which), plan=plan)))
            elif what == "sleep":
                await asyncio.sleep(float(which))
            elif what == "resize":
                size = int(which)
                room.admit()
            elif int(which) < len(tasks):
                task = tasks[int(which)]
                if what == "cancel":
                    task.cancel()
                elif _has_slot(task):
                    released.add(int(which))
                    task.result().release(5)
            await settle()
            holding = sum(_has_slot(each) for each in tasks) - len(released)
            assert room.held == holding
            assert room.held <= max(held_before, size_before, size)
            assert room.waiting == sum(not each.done() for each in tasks) <= queue
            assert not room.waiting or room.held >= size
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if _has_slot(task):
                task.result().release()
        assert (room.held, room.waiting) == (0, 0)

    run_instantly(live_through())


def _has_slot(task: "asyncio.Task[Slot]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def test_a_slot_is_released_once() -> None:
    async def release_twice() -> None:
        room = admission(1)
        slot = await room.enter(LIGHT, 10)
        slot.release()
        slot.release(5)
        other = await room.enter(LIGHT, 10)
        slot.release()
        assert room.held == 1
        other.release()
        assert room.held == 0

    run_instantly(release_twice())


def test_a_slot_that_comes_to_someone_who_just_left_goes_to_the_next_one() -> None:
    async def leave_in_the_same_moment() -> None:
        room = admission(1)
        slot = await room.enter(LIGHT, 10)
        first, second = enter(room), enter(room)
        await settle()
        slot.release(10)
        first.cancel()
        await settle()
        assert first.cancelled()
        assert _has_slot(second)
        assert room.held == 1

    run_instantly(leave_in_the_same_moment())


def test_without_slots_everybody_is_admitted() -> None:
    async def crowd() -> None:
        room = admission(None, queue=0)
        slots = [await room.enter(LIGHT, 10) for _ in range(1000)]
        assert room.predicted_wait_s(LIGHT) == 0
        for slot in slots:
            slot.release(10)
        assert (room.held, room.waiting) == (0, 0)

    run_instantly(crowd())


def test_who_waits_too_long_is_told_and_leaves_the_queue() -> None:
    async def wait() -> None:
        room = admission(1, max_wait_s=5)
        await room.enter(LIGHT, 10)
        with pytest.raises(Overloaded):
            await room.enter(LIGHT, 10)
        assert now() == pytest.approx(5)
        assert room.waiting == 0

    run_instantly(wait())


def test_in_a_full_queue_a_heavy_user_makes_room_for_a_light_one() -> None:
    async def flood() -> None:
        room = admission(1, queue=3)
        slot = await room.enter(HEAVY, 10)
        flood = [enter(room, HEAVY) for _ in range(3)]
        await settle()
        light = enter(room)
        await settle()
        assert isinstance(flood[-1].exception(), Overloaded)
        with pytest.raises(Overloaded):
            await room.enter(HEAVY, 10)
        slot.release(10)
        (await flood[0]).release(10)
        await settle()
        assert _has_slot(light)
        assert room.waiting == 1

    run_instantly(flood())


def test_all_who_wait_can_be_turned_away() -> None:
    async def turn_away() -> None:
        room = admission(1)
        await room.enter(LIGHT, 10)
        waiting = [enter(room) for _ in range(3)]
        await settle()
        room.turn_away(EngineUnavailable("down"))
        await settle()
        assert all(isinstance(each.exception(), EngineUnavailable) for each in waiting)
        assert (room.held, room.waiting) == (1, 0)

    run_instantly(turn_away())


async def _served_for(room: Admission, held_s: float, then: Callable[[float], None]) -> None:
    slot = await room.enter(HEAVY, 10)
    then(slot.waited_s)
    await asyncio.sleep(held_s)
    slot.release(10)


@settings(max_examples=60, deadline=None)
@given(slots=st.integers(1, 5), queued=st.integers(0, 25), phase=st.floats(0, 0.99))
def test_a_predicted_wait_comes_true_within_one_turn(slots: int, queued: int, phase: float) -> None:
    held_s = 2.0

    async def wait() -> None:
        room = admission(slots)
        await learned(room, held_s)
        waits: list[float] = []
        others: list[Awaitable[None]] = []
        for _ in range(slots + queued):
            others.append(asyncio.create_task(_served_for(room, held_s, waits.append)))
            await settle()
        await asyncio.sleep(held_s * phase)
        predicted = room.predicted_wait_s(HEAVY)
        await asyncio.create_task(_served_for(room, held_s, waits.append))
        assert abs(waits[-1] - predicted) <= held_s
        await asyncio.gather(*others)

    run_instantly(wait())


@settings(max_examples=60, deadline=None)
@given(slots=st.integers(1, 4), queue=st.integers(1, 30), max_wait_s=st.floats(1, 20))
def test_retry_after_is_true_if_nobody_else_comes(slots: int, queue: int, max_wait_s: float) -> None:
    held_s = 2.0

    async def be_refused_and_come_back() -> None:
        room = admission(slots, queue=queue, max_wait_s=max_wait_s)
        await learned(room, held_s)
        people = []
        refusal: Overloaded | None = None
        for _ in range(200):
            task = asyncio.create_task(_served_for(room, held_s, lambda _: None))
            people.append(task)
            await settle()
            if task.done() and isinstance(error := task.exception(), Overloaded):
                refusal = error
                break
        assert refusal is not None
        await asyncio.sleep(refusal.retry_after_s + held_s)
        again = enter(room, HEAVY)
        await settle()
        assert not again.done() or _has_slot(again)
        again.cancel()
        await asyncio.gather(again, *people, return_exceptions=True)

    run_instantly(be_refused_and_come_back())


def test_before_any_slot_came_back_the_wait_is_no_shorter_than_the_first_ones_took_so_far() -> None:
    async def wait() -> None:
        room = admission(2)
        for _ in range(2):
            await room.enter(LIGHT, 10)
        assert room.predicted_wait_s(LIGHT) == 0
        await asyncio.sleep(30)
        assert room.predicted_wait_s(LIGHT) == pytest.approx(15)

    run_instantly(wait())


def test_a_wait_over_the_limit_is_refused_at_once() -> None:
    async def come() -> None:
        room = admission(1, max_wait_s=3)
        await learned(room, 10)
        await room.enter(LIGHT, 10)
        before = now()
        with pytest.raises(Overloaded) as error:
            await room.enter(LIGHT, 10)
        assert now() == before
        assert error.value.retry_after_s == pytest.approx(10)

    run_instantly(come())


def test_a_crowd_that_comes_back_when_told_to_is_served_without_idle_slots_and_asks_a_few_times() -> None:
    crowd, slots, held_s = 400, 4, 0.5
    tries: list[int] = []

    async def be_served(room: Admission) -> None:
        for number in range(1, 100):
            try:
                await _served_for(room, held_s, lambda _: None)
            except Overloaded as error:
                await asyncio.sleep(error.retry_after_s)
            else:
                tries.append(number)
                return

    async def come_together() -> None:
        room = admission(slots, queue=8)
        await learned(room, held_s)
        began = now()
        await asyncio.gather(*(be_served(room) for _ in range(crowd)))
        assert len(tries) == crowd
        assert now() - began <= crowd * held_s / slots * 1.2
        assert sum(tries) <= 4 * crowd

    run_instantly(come_together())


def test_the_line_of_those_who_were_sent_away_has_an_end() -> None:
    async def come() -> None:
        room = admission(1, queue=0)
        await learned(room, 2)
        await room.enter(LIGHT, 10)
        told = []
        for _ in range(50):
            with pytest.raises(Overloaded) as error:
                await room.enter(LIGHT, 10)
            told.append(error.value.retry_after_s)
        assert told[:3] == pytest.approx([2, 4, 6])
        assert told[-1] == LONGEST_LINE_S
        await asyncio.sleep(LONGEST_LINE_S)
        with pytest.raises(Overloaded) as error:
            await room.enter(LIGHT, 10)
        assert error.value.retry_after_s == pytest.approx(2)

    run_instantly(come())


def test_a_slot_that_no_engine_was_asked_with_teaches_nothing() -> None:
    async def come() -> None:
        room = admission(1)
        await learned(room, 10)
        (await room.enter(LIGHT, 10)).release()
        await room.enter(LIGHT, 10)
        assert room.predicted_wait_s(LIGHT) == pytest.approx(10)

    run_instantly(come())


def test_paid_and_free_share_busy_slots_by_weight() -> None:
    served = {"free": 0, "pro": 0}

    async def be_busy(room: Admission, plan: str) -> None:
        while True:
            slot = await room.enter(Flow(user="u", plan=plan), 10)
            served[plan] += 1
            await asyncio.sleep(1)
            slot.release(10)

    async def compete() -> None:
        room = admission(2)
        people = [asyncio.create_task(be_busy(room, plan)) for plan in ("free", "pro") for _ in range(6)]
        await asyncio.sleep(200)
        for each in people:
            each.cancel()
        await asyncio.gather(*people, return_exceptions=True)

    run_instantly(compete())

    assert served["pro"] / served["free"] == pytest.approx(4, rel=0.1)
