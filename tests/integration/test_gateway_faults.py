"""Engines that fail in every way there is, and what the gateway's client sees: nothing, or the truth."""

import asyncio
import time
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from fleets import ask, complete, running_fleet
from triplane.domain.errors import (
    EngineFailed,
    EngineUnavailable,
    FirstTokenTimeout,
    Overloaded,
    TriplaneError,
)
from triplane.domain.events import Delta, Failed, Finished, Started
from triplane.inference.response_cache import MemoryResponses
from triplane.inference.simulated_engine.faults import (
    CloseListener,
    Drop,
    ErrorEvent,
    Fault,
    Garbage,
    Hang,
    Refuse,
)
from waiting import until

TWO = {"pool": {"replicas": 2}}
QUICK = {"first_token_s": 0.3, "inter_token_s": 0.3, "total_s": 10.0}

BEFORE_THE_FIRST_TOKEN: dict[str, Fault] = {
    "500": Refuse(status=500),
    "503": Refuse(status=503),
    "429": Refuse(status=429, retry_after_s=30),
    "dropped before the headers": Drop(),
    "dropped before the first token": Drop(after_tokens=0),
    "garbage at once": Garbage(after_tokens=0),
    "an error event at once": ErrorEvent(after_tokens=0),
    "hangs before the headers": Hang(),
    "hangs before the first token": Hang(after_tokens=0),
    "refuses connections": CloseListener(seconds=20),
}

IN_THE_MIDDLE: dict[str, Fault] = {
    "dropped": Drop(after_tokens=7),
    "garbage": Garbage(after_tokens=7),
    "an error event": ErrorEvent(after_tokens=7),
    "hangs": Hang(after_tokens=7),
}


async def undisturbed(**fields: Any) -> str:
    async with running_fleet({"pool": {}}) as fleet:
        return (await complete(fleet.gateway, ask(**fields))).text


@pytest.mark.parametrize("fault", BEFORE_THE_FIRST_TOKEN.values(), ids=list(BEFORE_THE_FIRST_TOKEN))
async def test_before_the_first_token_the_other_replica_answers_and_nobody_sees(fault: Fault) -> None:
    wanted = await undisturbed()
    async with running_fleet({"pool": {"replicas": 2, "timeouts": QUICK}}) as fleet:
        fleet.break_engine(0, fault)
        for conversation in range(20):
            told = await complete(fleet.gateway, ask(affinity=f"conversation {conversation}"))

            assert told.text == wanted
            assert told.finished.reason == "length"
            assert told.calls[-1].replica.endswith(str(fleet.ports[1]))
            if len(told.calls) > 1:
                return
    raise AssertionError("No conversation was sent to the broken engine.")


@pytest.mark.parametrize("fault", IN_THE_MIDDLE.values(), ids=list(IN_THE_MIDDLE))
async def test_in_the_middle_another_replica_goes_on_from_the_last_word(fault: Fault) -> None:
    wanted = await undisturbed()
    async with running_fleet({"pool": {"replicas": 2, "timeouts": QUICK}}) as fleet:
        for each in (0, 1):
            fleet.break_engine(each, msgspec.structs.replace(fault, count=1))
        told = await complete(fleet.gateway, ask())

    assert told.text == wanted
    assert isinstance(told.events[-1], Finished)
    assert len(told.calls) == 3
    assert [call.attempt for call in told.calls] == [1, 2, 3]


async def test_where_no_engine_can_go_on_the_text_so_far_is_all_and_the_client_is_told() -> None:
    abilities = ["tools", "json_schema"]
    async with running_fleet({"pool": {"replicas": 2, "abilities": abilities}}) as fleet:
        for each in (0, 1):
            fleet.break_engine(each, Drop(after_tokens=7))
        told = await complete(fleet.gateway, ask())

    last = told.events[-1]
    assert isinstance(last, Failed)
    assert (last.code, last.retryable) == ("engine_failed", True)
    assert len([event for event in told.events if isinstance(event, Delta)]) == 7
    assert len(told.calls) == 1


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_a_call_that_breaks_off_is_billed_with_its_prompt(engine: str) -> None:
    async with running_fleet({"pool": {"engine": engine, "abilities": [], "retries": 0}}) as fleet:
        fleet.break_engine(0, Drop(after_tokens=7))
        told = await complete(fleet.gateway, ask("word " * 100))
        computed = fleet.computed

    assert isinstance(told.events[-1], Failed)
    assert told.usage.prompt_tokens == computed.prompt_tokens > 100
    assert told.usage.completion_tokens == 7


async def test_the_next_route_answers_when_all_replicas_of_the_first_are_down() -> None:
    async with running_fleet({"first": {"replicas": 2}, "second": {}}) as fleet:
        for each in (0, 1):
            fleet.break_engine(each, Refuse(status=500))
        told = await complete(fleet.gateway, ask())

    assert told.routes[-1] == "second"
    assert set(told.routes[:-1]) == {"first"}
    assert told.finished.reason == "length"


async def test_a_first_route_that_dies_in_the_middle_is_continued_by_the_second() -> None:
    wanted = await undisturbed()
    async with running_fleet({"first": {"retries": 0}, "second": {}}) as fleet:
        fleet.break_engine(0, Drop(after_tokens=5))
        told = await complete(fleet.gateway, ask())

    assert told.text == wanted
    assert told.routes == ["first", "second"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Refuse(status=500), EngineFailed),
        (Refuse(status=503), EngineUnavailable),
        (Refuse(status=429, retry_after_s=7), Overloaded),
        (Hang(), FirstTokenTimeout),
    ],
)
async def test_when_all_fail_the_client_is_told_what_the_engines_said(
    fault: Fault, error: type[TriplaneError]
) -> None:
    async with running_fleet({"pool": {"replicas": 2, "timeouts": QUICK}}) as fleet:
        for each in (0, 1):
            fleet.break_engine(each, fault)
        with pytest.raises(error) as refused:
            await complete(fleet.gateway, ask())

        if isinstance(refused.value, Overloaded):
            assert 0 < refused.value.retry_after_s <= 7
            with pytest.raises(Overloaded) as again:
                await complete(fleet.gateway, ask())
            assert 0 < again.value.retry_after_s <= 7
            assert fleet.requests_at(0) + fleet.requests_at(1) == 0


async def test_a_replica_that_fails_again_and_again_is_left_alone_and_taken_back() -> None:
    async with running_fleet(TWO) as fleet:
        fleet.break_engine(0, Refuse(status=500))
        fleet.break_engine(1, Refuse(status=500))
        for _ in range(6):
            with pytest.raises((EngineFailed, EngineUnavailable)):
                await complete(fleet.gateway, ask())
        assert {each.state for each in fleet.gateway.fleet()[0].replicas} <= {"open", "half_open"}

        for each in (0, 1):
            fleet.break_engine(each)
        await fleet.gateway.look()

        assert (await complete(fleet.gateway, ask())).finished
        assert "closed" in {each.state for each in fleet.gateway.fleet()[0].replicas}


async def test_a_brown_out_makes_no_storm_of_retries() -> None:
    async with running_fleet({"pool": {"replicas": 2, "retries": 5}}) as fleet:
        for each in (0, 1):
            fleet.break_engine(each, Refuse(status=429, retry_after_s=0))
        asked = 60
        results = await asyncio.gather(
            *(complete(fleet.gateway, ask(request_id=f"req_{n}")) for n in range(asked)),
            return_exceptions=True,
        )
        struck = sum(each.faults.state.faults[0].struck for each in fleet.engines)

    assert all(isinstance(each, Overloaded) for each in results)
    assert struck <= asked * 1.2 + 10


async def test_every_token_that_an_engine_computed_is_billed_once_whatever_failed() -> None:
    async with running_fleet({"first": {"replicas": 2, "timeouts": QUICK}, "second": {}}) as fleet:
        fleet.break_engine(0, Drop(after_tokens=3, probability=0.4))
        fleet.break_engine(1, ErrorEvent(after_tokens=9, probability=0.4), Hang(after_tokens=2, count=1))
        told = [await complete(fleet.gateway, ask(f"Question {n}")) for n in range(30)]
        billed = sum(each.usage.completion_tokens for each in told)
        failed = sum(len(each.calls) - 1 for each in told)

        assert all(isinstance(each.events[-1], Finished) for each in told)
        assert failed > 0
        # An engine that dies in the middle has computed what it had not sent yet: a step's tokens at most.
        assert 0 <= fleet.computed.completion_tokens - billed <= failed * 2


async def test_hanging_up_ends_the_engines_work_within_a_second() -> None:
    async with running_fleet({"pool": {"slots": 1}}, engine={"speed": 1.0}) as fleet:
        completion = await fleet.gateway.complete(ask("A long story", max_tokens=2000))
        async for event in completion:
            if isinstance(event, Delta):
                break
        began = time.monotonic()
        await completion.aclose()
        await until(lambda: fleet.engines[0].engine.simulation.running == 0)

        assert time.monotonic() - began < 1
        assert fleet.gateway.fleet()[0].held == 0


async def test_prefill_and_decode_run_on_pools_of_their_own() -> None:
    decode, prefill = {"kv_role": "decode"}, {"kv_role": "prefill"}
    async with running_fleet({"plain": {}}) as fleet:
        wanted = (await complete(fleet.gateway, ask("word " * 200))).text
    async with (
        running_fleet({"prefill": {"of": prefill}}) as readers,
        running_fleet(
            {"pool": {"of": decode, "prefill_urls": [readers.engines[0].url]}},
        ) as fleet,
    ):
        async with aclosing(await fleet.gateway.complete(ask("word " * 200))) as completion:
            events = [event async for event in completion]
        reader, writer = readers.engines[0].engine.simulation, fleet.engines[0].engine.simulation

    assert "".join(event.text for event in events if isinstance(event, Delta)) == wanted
    assert reader.prompt_computed > 200
    assert writer.prompt_transferred > 200
    assert writer.prompt_computed <= 16  # the block that the last token lies in
    assert len(completion.calls) == 2
    assert completion.usage.prompt_tokens == reader.prompt_computed


async def test_a_prefill_pool_that_is_down_costs_time_but_no_answer() -> None:
    async with (
        running_fleet({"prefill": {"of": {"kv_role": "prefill"}}}) as readers,
        running_fleet(
            {"pool": {"of": {"kv_role": "decode"}, "prefill_urls": [readers.engines[0].url]}},
        ) as fleet,
    ):
        readers.break_engine(0, Refuse(status=503))
        told = await complete(fleet.gateway, ask("word " * 200))

    assert told.finished.reason == "length"


async def test_a_conversation_stays_with_the_replica_that_has_its_prefix() -> None:
    async with running_fleet({"pool": {"replicas": 4, "slots": 8}}) as fleet:
        story = "Once upon a time there was a lighthouse. " * 20
        for length in range(1, 6):
            for name in "abcdefgh":
                await complete(fleet.gateway, ask(f"{name}: {story * length}", affinity=name))
        told = [each.engine.simulation for each in fleet.engines]

    cached, computed = sum(each.prompt_cached for each in told), sum(each.prompt_computed for each in told)
    assert cached / (cached + computed) > 0.6
    assert sum(each.requests > 0 for each in told) > 1


async def test_a_deterministic_request_of_a_key_that_caches_is_answered_from_memory_the_second_time() -> None:
    async with running_fleet({"pool": {}}, responses=MemoryResponses()) as fleet:
        first = await complete(fleet.gateway, ask(caches=True))
        again = await complete(fleet.gateway, ask(caches=True, request_id="req_again"))
        without = await complete(fleet.gateway, ask())
        elsewhere = await complete(fleet.gateway, ask(caches=True, tenant="another"))
        asked = fleet.requests_at(0)

    assert again.text == first.text
    assert again.usage == first.usage
    assert again.calls == []
    assert again.events[0] == Started(engine="cache", model="simulated-llama-8b", is_cached=True)
    assert without.text == elsewhere.text == first.text
    assert asked == 3
