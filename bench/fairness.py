"""Whose turn it is, measured before simulated engines: `python -m bench.fairness`.

1. A light user alone, then beside a user of the same plan who floods the gateway with five times what it can
   serve. 2. A paid plan of weight 4 beside a free one, both with more than there is room for. 3. Users of one
   plan whose answers differ in length. 4. Two API processes, each with a user of its own, over one gateway
   (gRPC): one asks four times as much as the other.
"""

import argparse
import asyncio
import itertools
import sys
from collections.abc import Sequence

import msgspec

from bench.engine_processes import MODEL, gateway_before, running_engines
from bench.gateway_load import (
    Asked,
    CompletesRequests,
    Summary,
    arrive,
    keep_asking,
    question,
    summary,
)
from bench.slots_seen import SlotsSeen
from triplane.inference.service.rpc.server import serving

PAID_WEIGHT = 4.0
PLANS = {"free": {"weight": 1.0}, "paid": {"weight": PAID_WEIGHT}}
SLOTS = 8


class Flooded(msgspec.Struct, frozen=True, kw_only=True):
    alone: Summary
    light: Summary
    heavy: Summary


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """`share` is of the tokens, by who got them."""

    share: dict[str, float]
    seen: dict[str, Summary]


class TwoProcesses(msgspec.Struct, frozen=True, kw_only=True):
    share: dict[str, float]
    seen: dict[str, Summary]
    most_at_once: int
    slots: int


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    flood: Flooded
    plans: Shared
    lengths: Shared
    processes: TwoProcesses


async def flood_beside_light(
    gateway: CompletesRequests, capacity_per_s: float, for_s: float, *, light_per_s: float = 1.0
) -> Flooded:
    """`capacity_per_s`: requests that the engines can serve."""
    alone = await arrive(gateway, lambda: question(MODEL, plan="free", user="light"), light_per_s, for_s)
    async with asyncio.TaskGroup() as group:
        flood = group.create_task(
            arrive(gateway, lambda: question(MODEL, plan="free", user="heavy"), 5 * capacity_per_s, for_s + 1)
        )
        await asyncio.sleep(1.0)
        light = group.create_task(
            arrive(gateway, lambda: question(MODEL, plan="free", user="light"), light_per_s, for_s)
        )
    return Flooded(alone=summary(alone), light=summary(light.result()), heavy=summary(flood.result()))


async def plans_beside_each_other(
    gateway: CompletesRequests, for_s: float, *, users: int = 4, clients: int = 24
) -> Shared:
    """Both plans with the same demand, each more than there is room for."""

    async def of_plan(plan: str) -> list[Asked]:
        names = itertools.cycle(range(users))
        return await keep_asking(
            gateway, lambda: question(MODEL, plan=plan, user=f"{plan} {next(names)}"), clients, for_s
        )

    told = await asyncio.gather(*(of_plan(plan) for plan in PLANS))
    return _shared(dict(zip(PLANS, told, strict=True)))


async def lengths_beside_each_other(
    gateway: CompletesRequests, for_s: float, lengths: Sequence[int] = (20, 60, 180), clients: int = 16
) -> Shared:
    """Users of one plan; each is fairly served if its tokens are as many as the others'."""

    async def of_length(tokens: int) -> list[Asked]:
        return await keep_asking(
            gateway,
            lambda: question(MODEL, plan="free", user=f"{tokens} tokens", tokens=tokens, prompt_words=4),
            clients,
            for_s,
        )

    told = await asyncio.gather(*(of_length(tokens) for tokens in lengths))
    return _shared({f"{tokens} tokens": each for tokens, each in zip(lengths, told, strict=True)})


async def processes_over_one_gateway(
    address: str, seen: SlotsSeen, slots: int, for_s: float, clients: Sequence[int] = (8, 32)
) -> TwoProcesses:
    """Processes as the API's are, each with one user; `seen` watches the gateway behind `address`."""
    names = [f"process {number}" for number in range(len(clients))]
    told = await asyncio.gather(
        *(_process(address, name, count, for_s) for name, count in zip(names, clients, strict=True))
    )
    shared = _shared(dict(zip(names, told, strict=True)))
    return TwoProcesses(share=shared.share, seen=shared.seen, most_at_once=seen.most, slots=slots)


def _shared(told: dict[str, list[Asked]]) -> Shared:
    """Only the time counts in which everybody still asks."""
    end = min(max(each.asked_at for each in one) for one in told.values())
    begin = max(min(each.ended_at for each in one if each.is_answered) for one in told.values())
    within = {name: [each for each in one if begin <= each.ended_at <= end] for name, one in told.items()}
    computed = {name: sum(each.computed for each in one) for name, one in within.items()}
    return Shared(
        share={name: each / sum(computed.values()) for name, each in computed.items()},
        seen={name: summary(one) for name, one in within.items()},
    )


async def _process(address: str, user: str, clients: int, for_s: float) -> list[Asked]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.asking_process"),
        *(address, user, str(clients), str(for_s)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), for_s + 60)
    return msgspec.json.decode(output, type=list[Asked])


async def measure(for_s: float) -> Fairness:
    seen = SlotsSeen()
    async with (
        running_engines(1) as engines,
        gateway_before(engines, plans=PLANS, observer=seen, slots=SLOTS, queue=64) as gateway,
        serving(gateway, "127.0.0.1:0") as port,
    ):
        warm = await keep_asking(gateway, lambda: question(MODEL), SLOTS, 3.0)
        capacity = len(warm) / 3.0
        flood = await flood_beside_light(gateway, capacity, for_s)
        plans = await plans_beside_each_other(gateway, for_s)
        lengths = await lengths_beside_each_other(gateway, for_s)
        seen.most = 0
        processes = await processes_over_one_gateway(f"127.0.0.1:{port}", seen, SLOTS, for_s)
    return Fairness(flood=flood, plans=plans, lengths=lengths, processes=processes)


def table(fairness: Fairness) -> str:
    flood = fairness.flood
    rows = {
        "light user alone": flood.alone,
        "light user beside the flood": flood.light,
        "the flood": flood.heavy,
        **{f"plan {name}": each for name, each in fairness.plans.seen.items()},
        **{f"user of {name} each": each for name, each in fairness.lengths.seen.items()},
        **fairness.processes.seen,
    }
    shares = {
        **{f"plan {name}": each for name, each in fairness.plans.share.items()},
        **{f"user of {name} each": each for name, each in fairness.lengths.share.items()},
        **fairness.processes.share,
    }
    lines = [
        "| | asked | answered | TTFT p50, ms | p99 | share of tokens |",
        "|---|---|---|---|---|---|",
    ]
    for name, each in rows.items():
        share = f"{shares[name]:.1%}" if name in shares else ""
        lines.append(
            f"| {name} | {each.asked} | {each.answered} | {each.ttft_p50_s * 1e3:,.0f} "
            f"| {each.ttft_p99_s * 1e3:,.0f} | {share} |"
        )
    processes = fairness.processes
    lines += ["", f"Over both processes at most {processes.most_at_once} of {processes.slots} slots at once."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--for", dest="for_s", type=float, default=20.0, help="seconds of each measurement")
    sys.stdout.write(table(asyncio.run(measure(parser.parse_args().for_s))))


if __name__ == "__main__":
    main()
