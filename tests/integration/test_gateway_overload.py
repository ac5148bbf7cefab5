"""Much more than the engines can serve: `bench/overload.py`, short. Ratios and counts, no seconds."""

import pytest
from bench.overload import Overload, measure

from fleets import running_fleet

SLOTS = 4
MAX_WAIT_S = 1.0


@pytest.fixture(scope="module")
async def overload() -> Overload:
    pool = {"pool": {"slots": SLOTS, "queue": 16, "max_wait_s": MAX_WAIT_S}}
    engine = {"speed": 1.0, "model": "llama-8b"}
    async with running_fleet(pool, engine=engine) as fleet:
        return await measure(
            fleet.gateway, SLOTS, flood_s=3.0, peak_s=2.0, crowd_s=0.3, times=10.0, patient=0
        )


async def test_goodput_stays_what_it_was_at_capacity(overload: Overload) -> None:
    assert overload.goodput > 0.8


async def test_everybody_else_is_told_when_to_come_back(overload: Overload) -> None:
    flood = overload.flood
    assert set(flood.refused) == {"overloaded"}
    assert flood.refused["overloaded"] > flood.answered
    assert 1 <= flood.retry_after_p50_s <= flood.retry_after_max_s <= 60


async def test_a_crowd_that_comes_back_when_told_to_is_served_and_asks_a_few_times(
    overload: Overload,
) -> None:
    crowd = overload.crowd
    assert crowd.served == crowd.clients
    assert crowd.requests < 6 * crowd.clients
