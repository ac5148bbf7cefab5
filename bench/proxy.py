"""What the gateway's own HTTP face costs on one core, beside a relay of bare bytes, before an engine that
costs nothing: `python -m bench.proxy`.

The gateway runs alone on core 0, with authentication, limits, a queue, metering and metrics on; engine and
clients share core 1. CPU is that process's alone. Timings never fail.
"""

import argparse
import asyncio
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import msgspec
import psutil
import uvloop

from bench.client import BenchFailed
from bench.load_client import Counts, LoadConnection, finish, open_connections, request_bytes
from bench.zero_delay_engine import MODEL, ZeroDelayEngine, running_zero_delay_engine
from triplane.inference.service.keys import make_key

CADENCE_S = 0.02

_CATALOGUE = """
[routes.engine]
engine = "openai_http"
urls = ["{url}"]
model = "{model}"
context_length = 8192
slots = 4096
price = {{ input = 0.15, output = 0.6 }}

[models."{model}"]
routes = ["engine"]

[plans.default]
requests_per_minute = 100_000_000
tokens_per_minute = 100_000_000_000
concurrent = 100_000
"""
"""With limits, wide enough for the load."""
_START_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Load:
    sequential: int = 1000
    requests: int = 20_000
    concurrency: int = 32
    streams: int = 500
    window_s: float = 5.0
    open_streams: int = 1000


@dataclass(frozen=True, kw_only=True)
class ProxyCost:
    """`stream` is an answer of one token, streamed; `whole` the same in one piece. Times in ms."""

    stream_requests_per_s: float
    stream_cpu_us: float
    whole_requests_per_s: float
    whole_cpu_us: float
    event_cpu_us: float
    events_per_s: float
    core_used: float
    added_ttft_ms_p50: float
    added_ttft_ms_p99: float
    busy_ttft_ms_p50: float
    busy_ttft_ms_p99: float
    kib_per_stream: float


@dataclass(frozen=True)
class Proxy:
    port: int
    key: str
    process: psutil.Process
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(self, words: int, *, stream: bool) -> bytes:
        return request_bytes(self.port, self.key, words, stream=stream, headers=self.headers)

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


async def measure(proxy: Proxy, engine: ZeroDelayEngine, load: Load) -> ProxyCost:
    stream_rate, stream_cpu = await per_request(proxy, engine, load, stream=True)
    whole_rate, whole_cpu = await per_request(proxy, engine, load, stream=False)
    request = proxy.request(1, stream=True)
    bare = await idle_ttft_ms(port_of(engine), request, engine, load)
    own = await idle_ttft_ms(proxy.port, request, engine, load)
    event_cpu, event_rate, core, busy = await per_event(proxy, engine, load)
    return ProxyCost(
        stream_requests_per_s=stream_rate,
        stream_cpu_us=stream_cpu,
        whole_requests_per_s=whole_rate,
        whole_cpu_us=whole_cpu,
        event_cpu_us=event_cpu,
        events_per_s=event_rate,
        core_used=core,
        added_ttft_ms_p50=median(own) - median(bare),
        added_ttft_ms_p99=p99(own) - p99(bare),
        busy_ttft_ms_p50=median(busy),
        busy_ttft_ms_p99=p99(busy),
        kib_per_stream=await memory_of(proxy, engine, load),
    )


async def per_request(
    proxy: Proxy, engine: ZeroDelayEngine, load: Load, *, stream: bool
) -> tuple[float, float]:
    """Requests a second with all that the core gives, and CPU of each, in µs."""
    engine.cadence_s = 0.0
    request = proxy.request(1, stream=stream)
    warm = await open_connections(proxy.port, request, load.concurrency, 50, Counts(), stream=stream)
    await finish(warm, 60)
    times = load.requests // load.concurrency
    counts = Counts()
    cpu, began = proxy.cpu_s(), perf_counter()
    await finish(
        await open_connections(proxy.port, request, load.concurrency, times, counts, stream=stream), 120
    )
    wall = perf_counter() - began
    return counts.answers / wall, (proxy.cpu_s() - cpu) / counts.answers * 1e6


async def idle_ttft_ms(port: int, request: bytes, engine: ZeroDelayEngine, load: Load) -> list[float]:
    """One request at a time."""
    engine.cadence_s = 0.0
    counts = Counts()
    await finish(await open_connections(port, request, 1, load.sequential + 100, counts, stream=True), 60)
    return [each * 1e3 for each in counts.ttft_s[100:]]


async def per_event(
    proxy: Proxy, engine: ZeroDelayEngine, load: Load
) -> tuple[float, float, float, list[float]]:
    """CPU of an event in µs, events a second, the share of the core, times to first token in ms."""
    engine.cadence_s = CADENCE_S
    words = int((load.window_s + 6) / CADENCE_S)
    request = proxy.request(words, stream=True)
    counts = Counts()
    opened = await open_connections(proxy.port, request, load.streams, 1, counts, stream=True)
    try:
        await _until_all_begun(counts, load.streams)
        events, cpu, began = counts.events, proxy.cpu_s(), perf_counter()
        await asyncio.sleep(load.window_s)
        wall, events, cpu = perf_counter() - began, counts.events - events, proxy.cpu_s() - cpu
    finally:
        await _hang_up(opened)
    return cpu / events * 1e6, events / wall, cpu / wall, [each * 1e3 for each in counts.ttft_s]


async def memory_of(proxy: Proxy, engine: ZeroDelayEngine, load: Load) -> float:
    """KiB of an open stream, by the growth of the process."""
    engine.cadence_s = 0.25
    request = proxy.request(1000, stream=True)
    before = proxy.process.memory_info().rss
    counts = Counts()
    opened = await open_connections(proxy.port, request, load.open_streams, 1, counts, stream=True)
    try:
        await _until_all_begun(counts, load.open_streams)
        return float(proxy.process.memory_info().rss - before) / load.open_streams / 1024
    finally:
        await _hang_up(opened)


async def _until_all_begun(counts: Counts, streams: int) -> None:
    async with asyncio.timeout(30):
        while True:
            if counts.tokens_begun >= streams:
                return
            await asyncio.sleep(0.05)


async def _hang_up(opened: Sequence[LoadConnection]) -> None:
    for connection in opened:
        connection.done.cancel()
        connection.close()
    await asyncio.sleep(0.5)


@asynccontextmanager
async def running_gateway(engine: ZeroDelayEngine, folder: Path) -> AsyncIterator[Proxy]:
    """`triplane gateway --http` on core 0, with one key and its usage log."""
    async with running_face(_CATALOGUE.format(url=engine.url, model=MODEL), folder) as proxy:
        yield proxy


@asynccontextmanager
async def running_face(catalogue: str, folder: Path) -> AsyncIterator[Proxy]:
    """The gateway's HTTP face with this catalogue; its files are in the folder."""
    secret, lines = make_key("bench")
    keys = folder / "keys.toml"
    keys.write_text(lines)
    (folder / "models.toml").write_text(catalogue)
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TRIPLANE_", "OTEL_"))},
        "TRIPLANE_DATA_DIR": str(folder),
        "TRIPLANE_LOG_LEVEL": "warning",
    }
    command = (sys.executable, "-m", "triplane.cli", "gateway")
    options = ("--http", f"127.0.0.1:{port}", "--keys", str(keys), "--grace", "1")
    async with running_process((*command, *options), environment, port) as process:
        yield Proxy(port, secret, process)


@asynccontextmanager
async def running_raw_relay(engine: ZeroDelayEngine) -> AsyncIterator[Proxy]:
    port = free_port()
    command = (sys.executable, "-m", "bench.raw_relay", str(port), str(port_of(engine)))
    async with running_process(command, dict(os.environ), port) as process:
        yield Proxy(port, "", process)


@asynccontextmanager
async def running_process(
    command: Sequence[str],
    environment: Mapping[str, str],
    port: int,
    *,
    start_s: float = _START_S,
    log: Path = Path(os.devnull),
) -> AsyncIterator[psutil.Process]:
    """A process on core 0 that listens on the port."""
    pinned = (*_pinned_to(0), *command)
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *pinned, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        async with asyncio.timeout(start_s):
            while not await _listens(port):
                if process.returncode is not None:
                    said = await asyncio.to_thread(_end_of, log)
                    raise BenchFailed(f"{command[0]} ended before it listened: {said}")
                await asyncio.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-300:].strip() if log.is_file() else ""


def _pinned_to(core: int) -> tuple[str, ...]:
    taskset = shutil.which("taskset")
    return (taskset, "-c", str(core)) if taskset and (os.cpu_count() or 1) > 1 else ()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_of(engine: ZeroDelayEngine) -> int:
    return int(engine.url.rpartition(":")[2].partition("/")[0])


def p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


async def run(load: Load) -> dict[str, ProxyCost]:
    costs: dict[str, ProxyCost] = {}
    async with running_zero_delay_engine() as engine:
        async with running_raw_relay(engine) as relay:
            costs["bytes alone"] = await measure(relay, engine, load)
        with tempfile.TemporaryDirectory(prefix="triplane-bench-") as folder:
            async with running_gateway(engine, Path(folder)) as gateway:
                costs["triplane gateway --http"] = await measure(gateway, engine, load)
    return costs


def table(costs: dict[str, ProxyCost]) -> str:
    names = list(costs)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for figure in ProxyCost.__dataclass_fields__:
        values = " | ".join(f"{getattr(costs[name], figure):,.2f}" for name in names)
        lines.append(f"| {figure.replace('_', ' ')} | {values} |")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a tenth of the load")
    options.add_argument("--json", type=Path, help="where the numbers go")
    chosen = options.parse_args()
    load = Load(sequential=200, requests=2000, window_s=2.0) if chosen.quick else Load()
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, set(range(1, os.cpu_count() or 1)))
    costs = uvloop.run(run(load))
    print(table(costs))
    if chosen.json:
        chosen.json.write_bytes(msgspec.json.encode({name: asdict(cost) for name, cost in costs.items()}))


if __name__ == "__main__":
    main()
