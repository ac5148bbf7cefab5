"""Many requests, faults and departures through the gateway: the short version of `bench/soak.py`."""

from bench.bill import Ledger
from bench.engine_processes import gateway_before, running_engines
from bench.soak import CLIENTS, SLOTS, TIMEOUTS, soak


async def test_after_thousands_of_faults_and_departures_nothing_is_left_and_the_bill_is_exact() -> None:
    ledger = Ledger()
    async with (
        running_engines(2, "--speed", "0") as engines,
        gateway_before(
            engines, observer=ledger, slots=SLOTS, queue=CLIENTS, max_wait_s=20.0, timeouts=TIMEOUTS
        ) as gateway,
    ):
        # It raises as soon as a part leaves a task, a slot, a place or a lease, or bills a token wrongly.
        told = await soak(gateway, engines, ledger, requests=2000, part=1000)

    assert told.outcomes["answered"] > 1200
    assert told.outcomes["left"] > 50
    assert told.outcomes["cancelled"] > 20
    assert told.bill.cut_calls > 100
    assert told.usable_slots == told.slots
    assert told.fds_after <= told.fds_before
    assert told.buckets_left == 0
