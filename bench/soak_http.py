"""The soak through the gateway's own HTTP face, in a process of its own: `python -m bench.soak_http`.

Engines and faults as in `bench.soak`; here clients hang up on the socket. The usage log is held against the
engines' records. The process's memory is the gateway's alone.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec

from bench.bill import Bill, Ledger
from bench.client import BenchFailed
from bench.engine_processes import MODEL, EngineProcess, running_engines
from bench.proxy import Proxy, running_face
from bench.soak import CLIENTS, FAULTS, LEAVES, SLOTS, TIMEOUTS, slope, sockets_closed
from triplane.domain.events import Usage
from triplane.domain.money import EngineCall
from triplane.inference.service.usage_log import UsageLine

PART = 4_000


class HttpSoak(msgspec.Struct, frozen=True, kw_only=True):
    """`rss_mib` after each part; `in_flight` by the gateway's own metrics."""

    requests: int
    took_s: float
    cpu_s: float
    outcomes: dict[str, int]
    rss_mib: list[float]
    fds_before: int
    fds_after: int
    in_flight: int
    bill: Bill


class _HttpClients:
    def __init__(self, proxy: Proxy, session: aiohttp.ClientSession) -> None:
        self.outcomes: Counter[str] = Counter()
        self._proxy = proxy
        self._session = session
        self._luck = random.Random(0)
        self._left = 0

    async def ask(self, requests: int) -> None:
        self._left = requests
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client())

    async def _client(self) -> None:
        while self._left > 0:
            self._left -= 1
            leaves = self._luck.random() < LEAVES
            try:
                async with asyncio.timeout(self._luck.random() * 0.03 if leaves else 30):
                    self.outcomes[await self._one()] += 1
            except TimeoutError:
                self.outcomes["hung up" if leaves else "nothing in time"] += 1

    async def _one(self) -> str:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "word " * self._luck.randint(1, 80)}],
            "max_tokens": self._luck.randint(1, 24),
            "stream": self._luck.random() < 0.8,
        }
        url = f"http://127.0.0.1:{self._proxy.port}/v1/chat/completions"
        headers = {"authorization": f"Bearer {self._proxy.key}"}
        try:
            async with self._session.post(url, json=body, headers=headers) as response:
                told = await response.read()
        except aiohttp.ClientError as error:
            return type(error).__name__
        if response.status != 200:
            return str(response.status)
        return "answered" if not body["stream"] or told.endswith(b"[DONE]\n\n") else "broke off"


async def soak_http(
    proxy: Proxy, usage_log: Path, engines: Sequence[EngineProcess], *, requests: int, part: int = PART
) -> HttpSoak:
    """Raises BenchFailed when the bill isn't right, or a call, a socket or a file is left at the end."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0)
    ledger, seen, bill = Ledger(), 0, Bill()
    rss: list[float] = []
    await asyncio.sleep(3)  # by then it has looked at its engines
    fds = proxy.process.num_fds()
    async with aiohttp.ClientSession(connector=connector) as session:
        clients = _HttpClients(proxy, session)
        for each in engines:
            await each.set_faults(*FAULTS)
        began, cpu = time.perf_counter(), proxy.cpu_s()
        for _ in range(requests // part):
            await clients.ask(part)
            await _quiet(engines)
            await asyncio.sleep(0.5)  # the usage log is written within 0.2 s
            lines = await asyncio.to_thread(_read, usage_log)
            _take(ledger, lines[seen:])
            seen = len(lines)
            bill += (this := await ledger.close(engines))
            if not this.is_right:
                raise BenchFailed(f"the bill isn't right: {this}")
            rss.append(proxy.process.memory_info().rss / 2**20)
        took_s, cpu_s = time.perf_counter() - began, proxy.cpu_s() - cpu
        for each in engines:
            await each.set_faults()
    fds_after = await sockets_closed(proxy.process, fds)
    soak = HttpSoak(
        requests=requests // part * part,
        took_s=took_s,
        cpu_s=cpu_s,
        outcomes=dict(clients.outcomes),
        rss_mib=rss,
        fds_before=fds,
        fds_after=fds_after,
        in_flight=await _in_flight(proxy),
        bill=bill,
    )
    if soak.in_flight or soak.fds_after > soak.fds_before:
        raise BenchFailed(
            f"something is left: {soak.in_flight} calls in flight,"
            f" {soak.fds_after} sockets and files after {soak.fds_before}"
        )
    return soak


def _read(usage_log: Path) -> list[UsageLine]:
    return [msgspec.json.decode(line, type=UsageLine) for line in usage_log.read_bytes().splitlines()]


def _take(ledger: Ledger, lines: Sequence[UsageLine]) -> None:
    by_request: dict[str, list[UsageLine]] = defaultdict(list)
    for line in lines:
        by_request[line.request_id].append(line)
    for request_id, of_request in by_request.items():
        calls = [_call(line) for line in of_request]
        for call in calls:
            ledger.add(call)
        ledger.note(request_id, calls, is_answered=of_request[-1].outcome == "complete")


def _call(line: UsageLine) -> EngineCall:
    usage = Usage(
        prompt_tokens=line.prompt_tokens,
        completion_tokens=line.completion_tokens,
        cached_tokens=line.cached_tokens,
    )
    return EngineCall(
        attempt=line.attempt, route=line.route, replica=line.replica, usage=usage, cost=line.cost
    )


async def _quiet(engines: Sequence[EngineProcess]) -> None:
    async with asyncio.timeout(10):
        while True:
            told = [await each.simulation() for each in engines]
            if not any(each.running or each.waiting for each in told):
                return
            await asyncio.sleep(0.05)


async def _in_flight(proxy: Proxy) -> int:
    url = f"http://127.0.0.1:{proxy.port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        lines = (await response.text()).splitlines()
    name = "triplane_engine_calls_in_flight"
    values = [float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)]
    if not values:
        raise BenchFailed(f"there is no {name} in the gateway's metrics")
    return round(sum(values))


def table(told: HttpSoak) -> str:
    half = told.rss_mib[len(told.rss_mib) // 2 :]
    outcomes = ", ".join(f"{count:,} {code}" for code, count in Counter(told.outcomes).most_common())
    rows = [
        (
            "requests",
            f"{told.requests:,} in {told.took_s:,.0f} s; "
            f"{told.cpu_s / told.requests * 1e6:,.0f} µs of the gateway's CPU each",
        ),
        ("what clients saw", outcomes),
        ("calls in flight at the end", str(told.in_flight)),
        ("sockets and files, before and after", f"{told.fds_before}, {told.fds_after}"),
        ("memory half-way and at the end", f"{half[0]:.1f}, {half[-1]:.1f} MiB"),
        ("growth in the second half, for 10,000 requests", f"{slope(half, PART):+.2f} MiB"),
        (
            "whole answers: tokens billed, computed",
            f"{told.bill.whole_billed:,}, {told.bill.whole_computed:,}",
        ),
        (
            "calls that broke off or were left: billed, computed",
            f"{told.bill.cut_billed:,}, {told.bill.cut_computed:,}",
        ),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


async def run(requests: int) -> HttpSoak:
    with tempfile.TemporaryDirectory(prefix="triplane-soak-") as name:
        folder = Path(name)
        async with running_engines(2, "--speed", "0") as engines:
            model = (await engines[0].simulation()).model
            catalogue = _CATALOGUE.format(
                urls=[each.url for each in engines],
                model=model,
                slots=SLOTS,
                queue=CLIENTS,
                name=MODEL,
                timeouts=", ".join(f"{key} = {value}" for key, value in TIMEOUTS.items()),
            )
            async with running_face(catalogue, folder) as proxy:
                usage_log = folder / "gateway-usage.jsonl"
                return await soak_http(proxy, usage_log, engines, requests=requests)


_CATALOGUE = """
[routes.pool]
engine = "vllm"
urls = {urls}
model = "{model}"
context_length = 8192
slots = {slots}
queue = {queue}
max_wait_s = 20.0
timeouts = {{ {timeouts} }}

[models.{name}]
routes = ["pool"]

[plans.default]
requests_per_minute = 100_000_000
tokens_per_minute = 100_000_000_000
concurrent = {queue}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak_http", description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000)
    sys.stdout.write(table(asyncio.run(run(parser.parse_args().requests))))


if __name__ == "__main__":
    main()
