"""Whoever goes away, at whatever moment, leaves nothing behind: no slot, no call in flight, no open stream,
no breaker that waits for the end of a trial; and every call that was begun is billed once."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instant_loop import now, run_instantly, settle
from scripted_engines import (
    HANG,
    Scene,
    Script,
    ScriptedEngine,
    ScriptedPrefillEngine,
    ask,
    complete,
    refuses,
    says,
    scene,
    sure,
)
from triplane.domain.errors import EngineFailed, EngineUnavailable, Overloaded, TriplaneError
from triplane.inference.gateway import AnyCompletion

DOWN = EngineUnavailable("down")
BROKEN = EngineFailed("broken")
ONE_SLOT = {"a": {"slots": 1, "retries": 2, "max_wait_s": 1000}}


def plain() -> Scene:
    return scene({"a": ScriptedEngine(says("a", "b", "c"))}, settings=ONE_SLOT)


def retried() -> Scene:
    return scene({"a": ScriptedEngine(refuses(DOWN), says(BROKEN), says("ok"))}, settings=ONE_SLOT)


def continued() -> Scene:
    first = ScriptedEngine(says("a", BROKEN), refuses(DOWN), says("b", BROKEN))
    return scene({"a": first, "b": ScriptedEngine(says("c", "d"))}, settings=ONE_SLOT)


def escalated() -> Scene:
    cheap = ScriptedEngine(says(sure("um", -3), HANG))
    cascade = {"route": "a", "probe_tokens": 1}
    return scene({"a": cheap, "b": ScriptedEngine(says("ok"))}, settings=ONE_SLOT, cascade=cascade)


def handed_over() -> Scene:
    prefill = ScriptedPrefillEngine(says(), refuses(DOWN))
    decode = ScriptedEngine(says("a", BROKEN), says("b"))
    return scene({"a": decode}, prefill=prefill, settings=ONE_SLOT)


def hanging() -> Scene:
    hangs = ScriptedEngine(Script(start_hangs=True), says(HANG), says("a", HANG), says("b"))
    timeouts = {"first_token_s": 3, "inter_token_s": 3}
    return scene({"a": hangs}, settings={"a": {"slots": 1, "timeouts": timeouts}})


SCENES = [plain, retried, continued, escalated, handed_over, hanging]
pauses = st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.02, 4.0]), max_size=40)


async def wait_steps(steps: list[float]) -> None:
    for pause_s in steps:
        await asyncio.sleep(pause_s)


@pytest.mark.parametrize("make", SCENES)
@settings(max_examples=40, deadline=None)
@given(steps=pauses)
def test_a_client_that_is_cancelled_leaves_nothing(make: Callable[[], Scene], steps: list[float]) -> None:
    async def leave() -> None:
        of = make()
        task = asyncio.create_task(complete(of.gateway, ask(max_tokens=50)))
        await wait_steps(steps)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        of.assert_nothing_is_left()

    run_instantly(leave())


@pytest.mark.parametrize("make", SCENES)
@settings(max_examples=40, deadline=None)
@given(steps=pauses)
def test_closing_from_another_task_ends_the_iteration_and_leaves_nothing(
    make: Callable[[], Scene], steps: list[float]
) -> None:
    async def read_all(completion: AnyCompletion) -> None:
        async for _ in completion:
            pass

    async def close_meanwhile() -> None:
        of = make()
        try:
            completion = await of.gateway.complete(ask(max_tokens=50))
        except TriplaneError:
            of.assert_nothing_is_left()
            return
        reading = asyncio.create_task(read_all(completion))
        await wait_steps(steps)
        await completion.aclose()
        await settle()
        assert reading.done()
        await reading
        of.assert_nothing_is_left()
        assert completion.calls == of.bills.ended_calls

    run_instantly(close_meanwhile())


@pytest.mark.parametrize("make", SCENES)
@settings(max_examples=30, deadline=None)
@given(steps=pauses, more=st.integers(0, 5))
def test_closing_that_is_cancelled_itself_leaves_nothing(
    make: Callable[[], Scene], steps: list[float], more: int
) -> None:
    async def cancel_twice() -> None:
        of = make()
        task = asyncio.create_task(complete(of.gateway, ask(max_tokens=50)))
        await wait_steps(steps)
        task.cancel()
        for _ in range(more):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (of.held, of.in_flight) == (0, 0)
        assert of.bills.begun == len(of.bills.ended_calls)

    run_instantly(cancel_twice())


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.sampled_from([0.0, 0.5]), max_size=12))
def test_a_trial_whose_caller_goes_away_lets_the_next_one_try(steps: list[float]) -> None:
    of_settings = {"a": {"retries": 0, "slots": 1, "max_wait_s": 1000}}

    async def try_again() -> None:
        engine = ScriptedEngine(*[refuses(DOWN)] * 5, says("well"))
        of = scene({"a": engine}, prefill=ScriptedPrefillEngine(), settings=of_settings)
        for _ in range(5):
            await asyncio.gather(complete(of.gateway, ask()), return_exceptions=True)
        await asyncio.sleep(1)
        trial = asyncio.create_task(complete(of.gateway, ask()))
        await wait_steps(steps)
        trial.cancel()
        await asyncio.gather(trial, return_exceptions=True)
        assert (await complete(of.gateway, ask())).text == "well"
        of.assert_nothing_is_left()

    run_instantly(try_again())


@settings(max_examples=60, deadline=None)
@given(
    leaving=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 6)), max_size=12),
    slots=st.integers(1, 3),
)
def test_a_crowd_that_comes_and_goes_leaves_nothing(leaving: list[tuple[int, int]], slots: int) -> None:
    async def crowd() -> None:
        of = scene(
            {"a": [ScriptedEngine(says("a", BROKEN), says("b", "c")) for _ in range(2)]},
            settings={"a": {"slots": slots, "queue": 6}},
            plans={"pro": {"weight": 4}},
        )
        people = [
            asyncio.create_task(
                complete(of.gateway, ask(user=f"u{number % 3}", plan="pro" if number % 2 else "free"))
            )
            for number in range(12)
        ]
        for number, steps in leaving:
            for _ in range(steps):
                await asyncio.sleep(0)
            people[number].cancel()
            assert of.gateway.fleet()[0].held <= 2 * slots
        ends = await asyncio.gather(*people, return_exceptions=True)
        assert all(
            not isinstance(end, BaseException) or isinstance(end, Overloaded | asyncio.CancelledError)
            for end in ends
        )
        of.assert_nothing_is_left()

    run_instantly(crowd())


def test_closing_while_the_next_call_waits_for_a_slot_stops_the_wait() -> None:
    async def close_in_the_queue() -> None:
        first, second = ScriptedEngine(says("a", BROKEN)), ScriptedEngine(says(HANG))
        of = scene(
            {"a": first, "b": second},
            settings={"a": {"retries": 0}, "b": {"slots": 1, "max_wait_s": 1000}},
            models={"other": {"routes": ["b"]}},
        )
        holding = await of.gateway.complete(ask(model="other"))
        completion = await of.gateway.complete(ask())
        reading = asyncio.create_task(_texts(completion))
        await settle()
        assert of.gateway.fleet()[1].waiting == 1

        before = now()
        await completion.aclose()

        assert await reading == 2
        assert now() == before
        assert of.gateway.fleet()[1].waiting == 0
        await holding.aclose()
        of.assert_nothing_is_left()
        assert len(second.requests) == 1

    run_instantly(close_in_the_queue())


def test_two_who_close_at_once_both_find_the_whole_bill() -> None:
    async def close_both() -> None:
        of = scene({"a": ScriptedEngine(says("a", HANG))})
        completion = await of.gateway.complete(ask())
        await completion.take_events()
        await completion.take_events()

        async def close_and_look() -> int:
            await completion.aclose()
            return len(completion.calls)

        assert set(await asyncio.gather(close_and_look(), close_and_look())) == {1}
        assert completion.calls == of.bills.ended_calls

    run_instantly(close_both())


def test_closing_is_no_failure_of_the_engine() -> None:
    async def close_often() -> None:
        of = scene({"a": ScriptedEngine(says("a", HANG))})
        for _ in range(8):
            completion = await of.gateway.complete(ask())
            reading = asyncio.create_task(_texts(completion))
            await settle()
            await completion.aclose()
            await reading
        assert of.gateway.fleet()[0].replicas[0].state == "closed"
        assert of.bills.codes == [None] * 8

    run_instantly(close_often())


async def _texts(completion: AnyCompletion) -> int:
    """How many events came before it was closed."""
    return len([event async for event in completion])
