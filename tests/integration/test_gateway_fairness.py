"""Whose turn it is: the short version of `bench/fairness.py`. Orders and shares are held, no clock times."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bench.fairness import (
    PAID_WEIGHT,
    PLANS,
    lengths_beside_each_other,
    plans_beside_each_other,
    processes_over_one_gateway,
)
from bench.gateway_load import ask, question
from bench.slots_seen import SlotsSeen

from fleets import MODEL, Fleet, running_fleet
from triplane.domain.errors import Overloaded
from triplane.inference.service.rpc.server import serving

SLOTS = 4
POOL: dict[str, dict[str, Any]] = {"pool": {"slots": SLOTS, "queue": 64}}
IN_TIME = {"speed": 1.0, "gpu": "h100", "model": "smollm2"}
"""An engine with a pace of its own, so that slots are what lacks."""


@pytest.fixture
async def seen() -> SlotsSeen:
    return SlotsSeen()


@pytest.fixture
async def fleet(seen: SlotsSeen) -> AsyncIterator[Fleet]:
    async with running_fleet(POOL, engine=IN_TIME, plans=PLANS, observer=seen) as fleet:
        yield fleet


async def until_waiting(fleet: Fleet, count: int) -> None:
    while True:
        if fleet.gateway.fleet()[0].waiting >= count:
            return
        await asyncio.sleep(0)


async def test_a_light_user_is_next_whatever_queue_another_one_has_built(fleet: Fleet) -> None:
    ended: list[str] = []

    async def one(user: str) -> None:
        await ask(fleet.gateway, question(MODEL, plan="free", user=user, tokens=40))
        ended.append(user)

    async with asyncio.TaskGroup() as group:
        for _ in range(60):
            group.create_task(one("heavy"))
        await until_waiting(fleet, 60 - SLOTS)
        group.create_task(one("light"))

    # Before it come those that had a slot already, and those that got one together with it.
    assert ended.index("light") < 2 * SLOTS


async def test_a_full_queue_makes_room_for_a_light_user_at_the_cost_of_the_one_that_filled_it(
    fleet: Fleet,
) -> None:
    async with asyncio.TaskGroup() as group:
        flood = [
            group.create_task(ask(fleet.gateway, question(MODEL, plan="free", user="heavy")))
            for _ in range(SLOTS + 64 + 20)
        ]
        await until_waiting(fleet, 64)
        light = group.create_task(ask(fleet.gateway, question(MODEL, plan="free", user="light")))

    refused = [each.result() for each in flood if not each.result().is_answered]
    assert light.result().is_answered
    assert len(refused) == 21
    assert {each.code for each in refused} == {Overloaded.code}
    assert all(each.retry_after_s and each.retry_after_s >= 1 for each in refused)


async def test_a_paid_plan_gets_its_weight_times_what_a_free_one_gets(fleet: Fleet) -> None:
    shared = await plans_beside_each_other(fleet.gateway, 2.0, clients=12)

    ratio = shared.share["paid"] / shared.share["free"]
    assert PAID_WEIGHT * 0.75 < ratio < PAID_WEIGHT * 1.33
    assert shared.seen["paid"].ttft_p50_s < shared.seen["free"].ttft_p50_s


async def test_users_of_one_plan_get_as_many_tokens_whatever_the_length_of_their_answers(
    fleet: Fleet,
) -> None:
    shared = await lengths_beside_each_other(fleet.gateway, 2.0, lengths=(10, 40), clients=8)

    assert all(0.4 < share < 0.6 for share in shared.share.values())


async def test_two_processes_share_one_gateways_slots_exactly_and_its_queue_fairly(
    fleet: Fleet, seen: SlotsSeen
) -> None:
    async with serving(fleet.gateway, "127.0.0.1:0") as port:
        told = await processes_over_one_gateway(f"127.0.0.1:{port}", seen, SLOTS, 3.0)

    assert told.most_at_once == SLOTS
    assert all(0.4 < share < 0.6 for share in told.share.values())
    assert fleet.gateway.fleet()[0].held == fleet.gateway.fleet()[0].waiting == 0
