"""Ten times more than the engines can serve, measured before simulated engines: `python -m bench.overload`.

1. The most that can be served: clients that ask again at once. 2. A flood of requests that come however busy
the gateway is, each by one of a thousand users, none of which comes back; amid it a few patient clients that
come back when they were told to. 3. How soon after the flood a request is served as on an idle gateway.
4. A crowd whose members all come back when told to, until each is served: how long that takes beside the
work that it brings, and how often each has to ask.
"""

import argparse
import asyncio
import random
import sys

import msgspec

from bench.engine_processes import MODEL, gateway_before, running_engines
from bench.gateway_load import (
    Asked,
    CompletesRequests,
    Summary,
    arrive,
    ask,
    ask_patiently,
    keep_asking,
    percentile,
    question,
    summary,
)
from triplane.domain.completion import CompletionRequest

USERS = 1000
PATIENT = 20
SLOTS = 16
REPLICAS = 2
MAX_WAIT_S = 5.0
SETTLE_S = 2.0
"""The beginning of a measurement, which doesn't count."""

_luck = random.Random(4)


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Clients that come back when told to. `took_s` is from the first question to the first token."""

    clients: int
    served: int
    requests: int
    tries_p50: float
    tries_max: int
    took_p50_s: float
    took_max_s: float


class Overload(msgspec.Struct, frozen=True, kw_only=True):
    """Answers, and tokens of answers, a second. `ideal_s` is the crowd's work at the peak rate."""

    times: float
    idle_ttft_s: float
    peak_answers_per_s: float
    peak_tokens_per_s: float
    flood_tokens_per_s: float
    flood: Summary
    patient: Patience
    recovery_s: float
    crowd: Patience
    crowd_s: float
    ideal_s: float

    @property
    def goodput(self) -> float:
        """Of the peak."""
        return self.flood_tokens_per_s / self.peak_tokens_per_s


def somebody() -> CompletionRequest:
    return question(MODEL, user=f"user {_luck.randrange(USERS)}")


async def measure(
    gateway: CompletesRequests,
    slots: int,
    *,
    flood_s: float,
    peak_s: float,
    crowd_s: float,
    times: float,
    patient: int = PATIENT,
) -> Overload:
    """`slots` of the route, `times` the capacity; `patient` clients amid the flood."""
    now = asyncio.get_running_loop().time
    idle = [await ask(gateway, somebody()) for _ in range(5)]
    idle_ttft_s = percentile([each.ttft_s or 0.0 for each in idle], 50)
    began = now()
    peak = await keep_asking(gateway, somebody, 2 * slots, peak_s)
    answers, peak_tokens = _rates(peak, began + peak_s / 5, began + peak_s)

    async with asyncio.TaskGroup() as group:
        began = now()
        flooding = group.create_task(arrive(gateway, somebody, times * answers, flood_s))
        waiting = [
            group.create_task(_after(flood_s / 4 * _luck.random(), gateway, f"patient {number}"))
            for number in range(patient)
        ]
        await asyncio.sleep(flood_s)
        recovery_s = await _recovery_s(gateway, idle_ttft_s)
    flood = flooding.result()
    settle_s = min(SETTLE_S, flood_s / 4)
    _, flood_tokens = _rates(
        flood + [each for one in waiting for each in one.result()], began + settle_s, began + flood_s
    )
    crowd_began = now()
    crowd = await _crowd(gateway, times * answers, crowd_s)
    return Overload(
        times=times,
        idle_ttft_s=idle_ttft_s,
        peak_answers_per_s=answers,
        peak_tokens_per_s=peak_tokens,
        flood_tokens_per_s=flood_tokens,
        flood=summary(flood),
        patient=_patience([each.result() for each in waiting]),
        recovery_s=recovery_s,
        crowd=_patience(crowd),
        crowd_s=max(each[-1].ended_at for each in crowd) - crowd_began,
        ideal_s=len(crowd) / answers,
    )


def _rates(told: list[Asked], begin: float, end: float) -> tuple[float, float]:
    """Answers and their tokens per second, of those that ended between."""
    within = [each for each in told if each.is_answered and begin <= each.ended_at <= end]
    return len(within) / (end - begin), sum(each.tokens for each in within) / (end - begin)


async def _after(delay_s: float, gateway: CompletesRequests, user: str) -> list[Asked]:
    await asyncio.sleep(delay_s)
    return await ask_patiently(gateway, question(MODEL, user=user))


async def _recovery_s(gateway: CompletesRequests, idle_ttft_s: float) -> float:
    """Until a request is served as on the idle gateway, from now; raises TimeoutError after a minute."""
    now = asyncio.get_running_loop().time
    began = now()
    async with asyncio.timeout(60):
        while True:
            asked = await ask(gateway, question(MODEL, user="probe", tokens=2))
            if asked.ttft_s is not None and asked.ttft_s < 3 * idle_ttft_s + 0.05:
                return asked.asked_at - began
            await asyncio.sleep(0.05)


async def _crowd(gateway: CompletesRequests, per_s: float, for_s: float) -> list[list[Asked]]:
    """Everybody comes within `for_s`, and stays until served."""
    told: list[list[Asked]] = []

    async def one(number: int) -> None:
        told.append(await ask_patiently(gateway, question(MODEL, user=f"crowd {number}")))

    async with asyncio.TaskGroup() as group:
        for number in range(round(per_s * for_s)):
            group.create_task(one(number))
            await asyncio.sleep(_luck.expovariate(per_s))
    return told


def _patience(told: list[list[Asked]]) -> Patience:
    served = [each for each in told if each[-1].is_answered]
    took = [each[-1].asked_at + (each[-1].ttft_s or 0.0) - each[0].asked_at for each in served]
    tries = [float(len(each)) for each in told]
    return Patience(
        clients=len(told),
        served=len(served),
        requests=sum(len(each) for each in told),
        tries_p50=percentile(tries, 50),
        tries_max=round(max(tries, default=0.0)),
        took_p50_s=percentile(took, 50),
        took_max_s=max(took, default=0.0),
    )


def table(overload: Overload) -> str:
    flood, patient, crowd = overload.flood, overload.patient, overload.crowd
    refused = ", ".join(f"{count:,} {code}" for code, count in flood.refused.items())
    rows = [
        (
            "the most that is served",
            f"{overload.peak_answers_per_s:.1f} answers/s, {overload.peak_tokens_per_s:,.0f} tokens/s",
        ),
        (
            f"goodput at {overload.times:g} times that",
            f"{overload.flood_tokens_per_s:,.0f} tokens/s: {overload.goodput:.1%} of the peak",
        ),
        ("asked, answered, refused", f"{flood.asked:,}, {flood.answered:,}, {refused}"),
        (
            "TTFT of those answered: idle; p50, p99, longest",
            f"{overload.idle_ttft_s:.2f} s; {flood.ttft_p50_s:.2f}, {flood.ttft_p99_s:.2f}, "
            f"{flood.ttft_max_s:.2f} s",
        ),
        ("refused after: p50, p99", f"{flood.refusal_p50_s * 1e3:.1f}, {flood.refusal_p99_s * 1e3:.1f} ms"),
        ("Retry-After: p50, longest", f"{flood.retry_after_p50_s:.1f}, {flood.retry_after_max_s:.1f} s"),
        ("as on an idle gateway again after", f"{overload.recovery_s:.2f} s"),
        (
            f"{patient.clients} patient clients amid the flood",
            f"{patient.served} served; tries p50 {patient.tries_p50:.0f}, most {patient.tries_max}; "
            f"after p50 {patient.took_p50_s:.1f} s, longest {patient.took_max_s:.1f} s",
        ),
        (
            f"a crowd of {crowd.clients:,} patient clients",
            f"{crowd.served:,} served in {overload.crowd_s:.0f} s ({overload.ideal_s:.0f} s of work) with "
            f"{crowd.requests:,} requests; tries p50 {crowd.tries_p50:.0f}, most {crowd.tries_max}",
        ),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


async def run(flood_s: float) -> Overload:
    options = ("--model", "llama-70b", "--gpus", "4")
    async with (
        running_engines(REPLICAS, *options) as engines,
        gateway_before(engines, slots=SLOTS, queue=64, max_wait_s=MAX_WAIT_S) as gateway,
    ):
        overload = await measure(
            gateway, SLOTS * REPLICAS, flood_s=flood_s, peak_s=flood_s / 4, crowd_s=flood_s / 15, times=10.0
        )
        lag = sum([(await each.simulation()).lag_s for each in engines])
        sys.stdout.write(f"The engines were late by {lag:.2f} s in all.\n\n")
    return overload


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--for", dest="flood_s", type=float, default=60.0, help="seconds of the flood")
    sys.stdout.write(table(asyncio.run(run(parser.parse_args().flood_s))))


if __name__ == "__main__":
    main()
