"""Simulated engines in processes of their own, and a gateway in this one in front of them."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import psutil

from bench.client import BenchFailed
from triplane.inference.catalogue import parse_catalogue
from triplane.inference.engines.opening import EngineOpener
from triplane.inference.gateway import Gateway
from triplane.inference.observer import GatewayObserver
from triplane.inference.simulated_engine.answering import RequestRecord
from triplane.inference.simulated_engine.engine import Simulation
from triplane.inference.simulated_engine.faults import Fault, FaultPlan

MODEL = "fast"
ROUTE = "pool"
_START_S = 30.0
_STOP_S = 10.0


@dataclass(frozen=True)
class EngineProcess:
    """`url` ends in `/v1`; `control_url` answers in every fault."""

    process: psutil.Process
    url: str
    control_url: str

    async def simulation(self) -> Simulation:
        """What it has done so far."""
        return msgspec.json.decode(await self._get("/simulation"), type=Simulation)

    async def records(self) -> list[RequestRecord]:
        """Its newest requests that have ended, ten thousand at most."""
        return msgspec.json.decode(await self._get("/simulation/requests"), type=list[RequestRecord])

    async def set_faults(self, *faults: Fault, seed: int = 0) -> None:
        """What goes wrong from now on; nothing, without faults."""
        plan = msgspec.json.encode(FaultPlan(faults=list(faults), seed=seed))
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.control_url}/faults", data=plan) as response,
        ):
            if response.status != 200:
                raise BenchFailed(f"the engine takes no faults: {await response.text()}")

    async def _get(self, path: str) -> bytes:
        async with aiohttp.ClientSession() as session, session.get(self.control_url + path) as response:
            return await response.read()


@asynccontextmanager
async def running_engines(count: int, *options: str) -> AsyncIterator[list[EngineProcess]]:
    """So many of `triplane simulated-engine` with these options."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_running_engine(options)) for _ in range(count)]


@asynccontextmanager
async def _running_engine(options: Sequence[str]) -> AsyncIterator[EngineProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "triplane.cli",
        "simulated-engine",
        *options,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        said = await asyncio.wait_for(_said(process), _START_S)
        yield EngineProcess(psutil.Process(process.pid), said["Ready"], said["Control"])
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), _STOP_S)


async def _said(process: asyncio.subprocess.Process) -> dict[str, str]:
    """What it says up to its readiness, by the word before the colon."""
    assert process.stdout is not None
    said: dict[str, str] = {}
    while "Ready" not in said:
        line = (await process.stdout.readline()).decode()
        if not line:
            raise BenchFailed("the simulated engine ended before it was ready")
        name, _, value = line.strip().partition(": ")
        said[name] = value
    return said


@asynccontextmanager
async def gateway_before(
    engines: Sequence[EngineProcess],
    *,
    plans: Mapping[str, Any] | None = None,
    observer: GatewayObserver | None = None,
    **route: Any,
) -> AsyncIterator[Gateway]:
    """A gateway, looked after, whose only model has one route with all these engines as replicas."""
    card = await engines[0].simulation()
    table = {
        "engine": "vllm",
        "urls": [each.url for each in engines],
        "model": card.model,
        "context_length": 8192,
        **route,
    }
    catalogue = parse_catalogue(
        {"routes": {ROUTE: table}, "models": {MODEL: {"routes": [ROUTE]}}, "plans": plans or {}}
    )
    gateway = Gateway(catalogue, EngineOpener({}), observer=observer)
    watching = asyncio.create_task(gateway.watch())
    try:
        yield gateway
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await gateway.close()
