"""A day of clients and failures, compressed: `python -m bench.soak`.

Simulated engines without delay, which fail in every way they can; in this process the gateway with its
limits, and clients that go away at random: while they wait, in the middle of an answer, or by being
cancelled. After each part nothing may be left: no task, socket, slot, call in flight, place in the queue or
lease. At the end every slot has to be usable again: a breaker that waits for a trial which was lost would
show. The engines' own records say what was computed, and the bill is held against them.
"""

import argparse
import asyncio
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing

import msgspec
import psutil

from bench.bill import Bill, Ledger
from bench.client import BenchFailed
from bench.engine_processes import MODEL, EngineProcess, gateway_before, running_engines
from bench.gateway_load import question
from triplane.domain.completion import Flow
from triplane.domain.errors import RateLimited, TriplaneError
from triplane.domain.events import Delta, Failed, Finished
from triplane.domain.limits import Limits
from triplane.inference.buckets import MemoryBuckets
from triplane.inference.gateway import AnyCompletion, Gateway
from triplane.inference.limit_policy import LimitPolicy, PlanLimits
from triplane.inference.limits import Limiter
from triplane.inference.simulated_engine.faults import (
    CloseListener,
    Drop,
    ErrorEvent,
    Fault,
    Garbage,
    Hang,
    Refuse,
)

PLANS = ("free", "paid")
USERS = 200
CLIENTS = 64
SLOTS = 24
PART = 5_000
LEAVES = 0.15
"""Of the clients, how many go away before the end."""

TIMEOUTS = {"connect_s": 2.0, "first_token_s": 2.0, "inter_token_s": 2.0, "total_s": 20.0}

FAULTS: tuple[Fault, ...] = (
    Refuse(status=500, probability=0.005),
    Refuse(status=503, probability=0.005),
    Refuse(status=429, retry_after_s=0, probability=0.005),
    Drop(probability=0.003),
    Drop(after_tokens=0, probability=0.003),
    Drop(after_tokens=3, probability=0.005),
    Garbage(after_tokens=2, probability=0.003),
    ErrorEvent(after_tokens=4, probability=0.003),
    Hang(probability=0.0003),
    Hang(after_tokens=2, probability=0.0003),
    CloseListener(seconds=0.05, probability=0.0002),
)
IDLE_SOCKETS_S = 9.0
"""After that long the gateway has closed the connections that it keeps between requests, all but one to each
engine, by which it reads the load."""


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What is there when nobody asks anything. `leases` are slots of the limits that can't be had."""

    tasks: int
    slots: int
    in_flight: int
    waiting: int
    leases: int
    called: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the soak, by its end. CPU seconds and resident memory are those of this process."""

    requests: int
    outcomes: dict[str, int]
    took_s: float
    cpu_s: float
    rss_mib: float
    engine_rss_mib: float
    left: Left
    bill: Bill


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """`slope_mib` is the growth of the resident memory over 10,000 requests, in the second half."""

    parts: list[Part]
    fds_before: int
    fds_after: int
    usable_slots: int
    slots: int
    buckets_left: int

    @property
    def slope_mib(self) -> float:
        return slope([part.rss_mib for part in self.parts[len(self.parts) // 2 :]], self.parts[0].requests)

    @property
    def engine_slope_mib(self) -> float:
        half = self.parts[len(self.parts) // 2 :]
        return slope([part.engine_rss_mib for part in half], self.parts[0].requests)

    @property
    def requests(self) -> int:
        return sum(part.requests for part in self.parts)

    @property
    def outcomes(self) -> Counter[str]:
        return sum((Counter(part.outcomes) for part in self.parts), Counter())

    @property
    def bill(self) -> Bill:
        whole = Bill()
        for part in self.parts:
            whole += part.bill
        return whole


def new_limiter(buckets: MemoryBuckets, ledger: Ledger) -> Limiter:
    """Limits that are wide enough for everybody, and are kept all the same."""
    wide = Limits(requests_per_minute=10**9, tokens_per_minute=10**12, concurrent=CLIENTS, burst_s=0.001)
    plan = PlanLimits(requests_per_minute=10**9, concurrent=CLIENTS, per_organisation=wide, burst_s=0.001)
    return Limiter(buckets, LimitPolicy(plans={"default": plan}, models={MODEL: wide}), ledger)


class Clients:
    """Some hundred users who ask, read and leave. `outcomes` by what each saw last."""

    def __init__(self, gateway: Gateway, limiter: Limiter, ledger: Ledger, seed: int = 0) -> None:
        self.outcomes: Counter[str] = Counter()
        self._gateway = gateway
        self._limiter = limiter
        self._ledger = ledger
        self._luck = random.Random(seed)
        self._left = 0

    async def ask(self, requests: int, clients: int = CLIENTS) -> None:
        """So many requests, of `clients` at a time."""
        self._left = requests
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client())

    async def _client(self) -> None:
        while self._left > 0:
            self._left -= 1
            asked = asyncio.create_task(self._one())
            if self._luck.random() < LEAVES / 3:
                await asyncio.sleep(self._luck.random() * 0.02)
                if asked.cancel():
                    self.outcomes["cancelled"] += 1
            await asyncio.wait((asked,))
            if not asked.cancelled():
                asked.result()

    async def _one(self) -> None:
        luck = self._luck
        leaves_after = luck.randrange(8) if luck.random() < LEAVES * 2 / 3 else None
        request = question(
            MODEL,
            plan=luck.choice(PLANS),
            user=f"user {luck.randrange(USERS)}",
            tokens=luck.randint(1, 24),
            prompt_words=luck.randint(1, 80),
        )
        try:
            with await self._limiter.reserve(request.flow, MODEL, 100) as reserved:
                completion = await self._gateway.complete(request)
                last = "left"
                try:
                    async with aclosing(completion):
                        last = await _read(completion, leaves_after)
                finally:
                    reserved.settle(completion.usage)
                    self._ledger.note(request.request_id, completion.calls, is_answered=last == "answered")
        except TriplaneError as error:
            last = error.code
        self.outcomes[last] += 1


async def _read(completion: AnyCompletion, leaves_after: int | None) -> str:
    """What the client saw last; it reads to the end, or leaves after so many words."""
    seen, last = 0, "left"
    async for event in completion:
        if seen == leaves_after:
            break
        seen += isinstance(event, Delta)
        if isinstance(event, Finished):
            last = "answered"
        elif isinstance(event, Failed):
            last = event.code
    return last


class _Clock:
    """The machine's, or ahead of it."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


async def soak(
    gateway: Gateway, engines: Sequence[EngineProcess], ledger: Ledger, *, requests: int, part: int = PART
) -> Soak:
    """All parts. Raises BenchFailed as soon as something is left, or the bill isn't right."""
    process = psutil.Process()
    clock = _Clock()
    buckets = MemoryBuckets(clock)
    limiter = new_limiter(buckets, ledger)
    async with AsyncExitStack() as stack:
        running = asyncio.create_task(limiter.run())
        stack.push_async_callback(asyncio.wait, (running,))
        stack.callback(running.cancel)
        clients = Clients(gateway, limiter, ledger)
        await gateway.look()
        fds, tasks = process.num_fds(), len(asyncio.all_tasks())
        await clients.ask(200)
        await _quiet(gateway, engines, ledger)
        await ledger.close(engines)
        for each in engines:
            await each.set_faults(*FAULTS)
        parts = []
        for _ in range(requests // part):
            parts.append(await _part(clients, part, gateway, engines, ledger, limiter, tasks))
            _require_nothing_left(parts[-1], tasks)
        for each in engines:
            await each.set_faults()
        usable = await _usable_slots(gateway, len(engines) * SLOTS)
        await _quiet(gateway, engines, ledger)
        fds_after = await sockets_closed(process, fds)
        await limiter.drain(5)
        clock.ahead_s = 300.0  # by then every bucket is full and forgotten, unless its debt is wrong
        await buckets.exchange((), ())
        return Soak(
            parts=parts,
            fds_before=fds,
            fds_after=fds_after,
            usable_slots=usable,
            slots=len(engines) * SLOTS,
            buckets_left=len(buckets),
        )


async def _part(
    clients: Clients,
    requests: int,
    gateway: Gateway,
    engines: Sequence[EngineProcess],
    ledger: Ledger,
    limiter: Limiter,
    tasks: int,
) -> Part:
    clients.outcomes.clear()
    process = psutil.Process()
    began, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
    await clients.ask(requests)
    took_s, cpu_s = time.perf_counter() - began, sum(process.cpu_times()[:2]) - cpu
    await _quiet(gateway, engines, ledger)
    await limiter.drain(5)
    bill = await ledger.close(engines)
    gc.collect()
    route = gateway.fleet()[0]
    return Part(
        requests=requests,
        outcomes=dict(clients.outcomes),
        took_s=took_s,
        cpu_s=cpu_s,
        rss_mib=process.memory_info().rss / 2**20,
        engine_rss_mib=max(each.process.memory_info().rss for each in engines) / 2**20,
        left=Left(
            tasks=await _tasks_left(tasks),
            slots=route.held,
            in_flight=sum(each.in_flight for each in route.replicas),
            waiting=route.waiting,
            leases=CLIENTS - await _free_leases(limiter),
            called=ledger.running,
        ),
        bill=bill,
    )


async def _tasks_left(wanted: int) -> int:
    """How many tasks there are, once a look at the engines that is under way has ended."""
    for _ in range(100):
        if len(asyncio.all_tasks()) <= wanted:
            break
        await asyncio.sleep(0.05)
    return len(asyncio.all_tasks())


async def sockets_closed(process: psutil.Process, wanted: int) -> int:
    """How many sockets and files are open: once they are no more than that, or after `IDLE_SOCKETS_S`."""
    by = time.monotonic() + IDLE_SOCKETS_S
    while True:
        if (count := int(process.num_fds())) <= wanted or time.monotonic() >= by:
            return count
        await asyncio.sleep(0.1)


async def _free_leases(limiter: Limiter) -> int:
    """How many requests of the organisation the limits would let run now."""
    flow = Flow(tenant="bench", user="nobody")
    with ExitStack() as stack:
        for taken in range(CLIENTS):
            try:
                stack.enter_context(await limiter.reserve(flow, MODEL, 1))
            except RateLimited:
                return taken
    return CLIENTS


async def _quiet(gateway: Gateway, engines: Sequence[EngineProcess], ledger: Ledger) -> None:
    """Until the engines have noticed that nobody listens any more; ten seconds at most."""
    async with asyncio.timeout(10):
        while True:
            told = [await each.simulation() for each in engines]
            if not ledger.running and not any(each.running or each.waiting for each in told):
                return
            await asyncio.sleep(0.02)


def _require_nothing_left(part: Part, tasks: int) -> None:
    left = part.left
    if left.tasks > tasks or left.slots or left.in_flight or left.waiting or left.leases or left.called:
        raise BenchFailed(f"something is left after {part.requests} requests: {left}, {tasks} tasks before")
    if not part.bill.is_right:
        raise BenchFailed(f"the bill isn't right: {part.bill}")


async def _usable_slots(gateway: Gateway, slots: int) -> int:
    """How many answers can be open at once: as many as there are slots, if none was lost."""
    async with asyncio.timeout(40):
        while {each.state for each in gateway.fleet()[0].replicas} != {"closed"}:
            await gateway.look()
            await Clients(gateway, new_limiter(MemoryBuckets(), Ledger()), Ledger()).ask(4, clients=2)
            await asyncio.sleep(0.1)
    async with AsyncExitStack() as stack:
        for _ in range(slots):
            completion = await asyncio.wait_for(gateway.complete(question(MODEL, tokens=4000)), 5)
            stack.push_async_callback(completion.aclose)
        return gateway.fleet()[0].held


def slope(values: Sequence[float], requests: int) -> float:
    """Least squares, for 10,000 requests."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    rise = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    return rise / sum((place - middle) ** 2 for place in range(count)) * 10_000 / requests


def table(told: Soak) -> str:
    bill, whole = told.bill, sum(part.took_s for part in told.parts)
    cpu_s = sum(part.cpu_s for part in told.parts)
    outcomes = ", ".join(f"{count:,} {code}" for code, count in told.outcomes.most_common())
    first, last = told.parts[len(told.parts) // 2], told.parts[-1]
    rows = [
        ("requests", f"{told.requests:,} in {whole:,.0f} s; {cpu_s / told.requests * 1e6:,.0f} µs CPU each"),
        ("what clients saw", outcomes),
        ("left after each part", str(last.left)),
        ("sockets and files, before and after", f"{told.fds_before}, {told.fds_after}"),
        ("slots usable at the end", f"{told.usable_slots} of {told.slots}"),
        ("buckets that don't fill up again", str(told.buckets_left)),
        ("memory, half-way and at the end", f"{first.rss_mib:.1f}, {last.rss_mib:.1f} MiB"),
        (
            "growth in the second half, for 10,000 requests",
            f"{told.slope_mib:+.2f} MiB; an engine's {told.engine_slope_mib:+.2f} MiB",
        ),
        ("whole answers: tokens billed, computed", f"{bill.whole_billed:,}, {bill.whole_computed:,}"),
        (
            "calls that broke off or were left: billed, computed",
            f"{bill.cut_billed:,}, {bill.cut_computed:,}",
        ),
        (
            "prompt tokens of those, billed, computed",
            f"{bill.cut_prompt_billed:,}, {bill.cut_prompt_computed:,}",
        ),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


async def run(requests: int) -> Soak:
    ledger = Ledger()
    async with (
        running_engines(2, "--speed", "0") as engines,
        gateway_before(
            engines, observer=ledger, slots=SLOTS, queue=CLIENTS, max_wait_s=20.0, timeouts=TIMEOUTS
        ) as gateway,
    ):
        return await soak(gateway, engines, ledger, requests=requests)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    sys.stdout.write(table(asyncio.run(run(parser.parse_args().requests))))


if __name__ == "__main__":
    main()
