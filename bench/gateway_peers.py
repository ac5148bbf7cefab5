"""Our gateway beside others, in one run: `python -m bench.gateway_peers`, `make bench-gateway`.

Each runs alone on core 0, before the same engine that costs nothing; engine and clients share core 1. Ours
with authentication, limits, metering and metrics on; each of the others as its own advice has it.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TypeVar

import msgspec
import uvloop

from bench.client import BenchFailed
from bench.load_client import Counts, finish, open_connections
from bench.peers import PEERS, NotInstalled, Peer
from bench.proxy import (
    Load,
    Proxy,
    free_port,
    idle_ttft_ms,
    memory_of,
    p99,
    per_event,
    per_request,
    port_of,
    running_gateway,
    running_process,
    running_raw_relay,
)
from bench.zero_delay_engine import ZeroDelayEngine, running_zero_delay_engine
from triplane import __version__

FEW_STREAMS = 50
CONCURRENCY = 256
"""Requests at once: so many that the core is what lacks, also where an answer is held back for 40 ms."""
_START_S = 120.0

T = TypeVar("T")


class Measured(msgspec.Struct, kw_only=True):
    """One gateway. None: it couldn't be measured, `notes` say why. Times in ms, CPU in µs; `busy` and `event`
    are at `streams` streams of an event every 20 ms, `kib_per_stream` at a thousand."""

    name: str
    does: str = ""
    version: str = ""
    requests_per_s: float | None = None
    request_cpu: float | None = None
    whole_requests_per_s: float | None = None
    added_p50: float | None = None
    added_p99: float | None = None
    streams: int = 0
    events_per_s: float | None = None
    event_cpu: float | None = None
    busy_p50: float | None = None
    busy_p99: float | None = None
    kib_per_stream: float | None = None
    notes: list[str] = []


async def measure(proxy: Proxy, engine: ZeroDelayEngine, load: Load, told: Measured) -> None:
    """Each figure by itself: one that can't be had leaves the others."""
    if asked := await _tried(told, "requests", per_request(proxy, engine, load, stream=True)):
        told.requests_per_s, told.request_cpu = asked
    if whole := await _tried(told, "whole answers", per_request(proxy, engine, load, stream=False)):
        told.whole_requests_per_s = whole[0]
    request = proxy.request(1, stream=True)
    bare = await idle_ttft_ms(port_of(engine), request, engine, load)
    if own := await _tried(told, "idle", idle_ttft_ms(proxy.port, request, engine, load)):
        told.added_p50, told.added_p99 = median(own) - median(bare), p99(own) - p99(bare)
    for streams in (load.streams, FEW_STREAMS):
        told.streams = streams
        wanted = Load(streams=streams, window_s=load.window_s)
        if events := await _tried(told, f"{streams} streams", per_event(proxy, engine, wanted)):
            told.event_cpu, told.events_per_s, _, busy = events
            told.busy_p50, told.busy_p99 = median(busy), p99(busy)
            break
    told.kib_per_stream = await _tried(told, "memory", memory_of(proxy, engine, load))


async def _tried(told: Measured, what: str, measuring: Awaitable[T]) -> T | None:
    try:
        return await measuring
    except (BenchFailed, TimeoutError, OSError) as error:
        told.notes.append(f"{what}: {error or 'not in time'}")
        return None


async def run(load: Load, names: list[str]) -> list[Measured]:
    every: list[Measured] = []
    async with running_zero_delay_engine() as engine:
        with tempfile.TemporaryDirectory(prefix="triplane-bench-") as folder:
            ours = Measured(name="triplane gateway --http", does="all of it", version=__version__)
            every.append(ours)
            async with running_gateway(engine, Path(folder)) as proxy:
                await measure(proxy, engine, load, ours)
            chosen = [peer for peer in PEERS if not names or peer.name in names]
            every += [await _peer(peer, engine, load, Path(folder)) for peer in chosen]
            relay = Measured(name="bytes alone", does="copies bytes, uvloop")
            every.append(relay)
            async with running_raw_relay(engine) as proxy:
                await measure(proxy, engine, load, relay)
    return every


async def _peer(peer: Peer, engine: ZeroDelayEngine, load: Load, folder: Path) -> Measured:
    told = Measured(name=peer.name, does=peer.does)
    try:
        await asyncio.to_thread(peer.install)
        told.version = await asyncio.to_thread(peer.version)
        async with _running(peer, engine, folder) as proxy:
            few = Load(sequential=load.sequential // 5, requests=load.requests // 10, window_s=load.window_s)
            await measure(proxy, engine, few if peer.is_slow else load, told)
    except (NotInstalled, BenchFailed, TimeoutError) as error:
        told.notes.append(f"not measured: {error or 'it did not start in time'}")
    return told


@asynccontextmanager
async def _running(peer: Peer, engine: ZeroDelayEngine, folder: Path) -> AsyncIterator[Proxy]:
    port = free_port()
    started = peer.start(port, port_of(engine), folder)
    environment = {**os.environ, **started.environment}
    log = folder / "peer.log"
    async with running_process(started.command, environment, port, start_s=_START_S, log=log) as process:
        proxy = Proxy(port, started.key, process, started.headers)
        await _until_it_answers(proxy)
        yield proxy


async def _until_it_answers(proxy: Proxy) -> None:
    """Some listen before they can serve."""
    async with asyncio.timeout(_START_S):
        while True:
            try:
                answers = await open_connections(
                    proxy.port, proxy.request(1, stream=True), 1, 1, Counts(), stream=True
                )
                await finish(answers, 10)
            except (BenchFailed, TimeoutError):
                await asyncio.sleep(0.5)
            else:
                return


def table(every: list[Measured]) -> str:
    lines = [
        "| gateway | does | requests/s | CPU of a request, µs | whole answers/s | added p50, p99, ms "
        "| streams | events/s | CPU of an event, µs | TTFT there p50, p99, ms | KiB a stream |",
        "|---" * 11 + "|",
    ]
    for each in every:
        cells = [
            f"{each.name} {each.version}".strip(),
            each.does,
            _cell(each.requests_per_s),
            _cell(each.request_cpu),
            _cell(each.whole_requests_per_s),
            f"{_cell(each.added_p50, 2)}, {_cell(each.added_p99, 2)}",
            str(each.streams or ""),
            _cell(each.events_per_s),
            _cell(each.event_cpu, 1),
            f"{_cell(each.busy_p50)}, {_cell(each.busy_p99)}",
            _cell(each.kib_per_stream),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"- {each.name}: {note}" for each in every for note in each.notes]
    return "\n".join([*lines, "", *notes]) + "\n"


def _cell(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway_peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the load")
    parser.add_argument("--only", nargs="*", default=[], help="names of peers beside ours")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    chosen = parser.parse_args()
    quick = Load(sequential=200, requests=2000, window_s=2.0, concurrency=CONCURRENCY)
    load = quick if chosen.quick else Load(concurrency=CONCURRENCY)
    cores = os.cpu_count() or 1
    if cores > 1:
        os.sched_setaffinity(0, set(range(1, cores)))
    every = uvloop.run(run(load, chosen.only))
    load_now = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    sys.stdout.write(
        f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores, {platform.machine()}, "
        f"Python {platform.python_version()}, load at the end {load_now}\n\n{table(every)}"
    )
    if chosen.json:
        chosen.json.write_bytes(msgspec.json.encode(every))


if __name__ == "__main__":
    main()
