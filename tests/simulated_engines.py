"""Simulated engines for tests: in this process, or as processes of their own, on free ports of this machine.

In-process ones are quicker to start and their state can be read directly; a process can be killed. At speed
0, the default here, they answer as fast as they can.
"""

import queue
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from triplane.domain.completion import ModelCard
from triplane.inference.engines.openai_http import OpenAIEngine
from triplane.inference.simulated_engine.answering import RequestRecord
from triplane.inference.simulated_engine.engine import Simulation
from triplane.inference.simulated_engine.faults import Fault, FaultPlan
from triplane.inference.simulated_engine.options import EngineOptions
from triplane.inference.simulated_engine.server import SimulatedEngineServer, running_simulated_engine

START_S = 20.0


@asynccontextmanager
async def running_simulated_engines(count: int, **options: Any) -> AsyncIterator[list[SimulatedEngineServer]]:
    """So many engines with the same EngineOptions, in this process."""
    made = EngineOptions(**{"speed": 0.0, **options})
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running_simulated_engine(made)) for _ in range(count)]


@dataclass(frozen=True)
class SimulatedEngineProcess:
    """`url` ends in `/v1`; `control_url` answers in every fault but a kill."""

    process: "subprocess.Popen[str]"
    url: str
    control_url: str


@contextmanager
def simulated_engine_process(*words: str) -> Iterator[SimulatedEngineProcess]:
    """`triplane simulated-engine` with these words behind it, ended on leaving."""
    command = [sys.executable, "-m", "triplane.cli", "simulated-engine", "--speed", "0", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        said = _said(process)
        yield SimulatedEngineProcess(process, said["Ready"], said["Control"])
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _said(process: "subprocess.Popen[str]") -> dict[str, str]:
    """What it says up to its readiness, by the word before the colon."""
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    output = process.stdout

    def read() -> None:
        for line in output:
            lines.put(line)
            if line.startswith("Ready: "):
                return
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    said: dict[str, str] = {}
    while "Ready" not in said:
        line = lines.get(timeout=START_S)
        if not line:
            raise RuntimeError(f"The simulated engine ended with status {process.wait()}.")
        name, _, value = line.strip().partition(": ")
        said[name] = value
    return said


def card_of(server: SimulatedEngineServer, *, supports_continuation: bool = False) -> ModelCard:
    engine = server.engine
    return ModelCard(
        id=engine.model_id,
        context_length=engine.max_model_len,
        owned_by="test",
        supports_continuation=supports_continuation,
    )


def engine_at(server: SimulatedEngineServer) -> OpenAIEngine:
    """The gateway's way to it. Close it."""
    return OpenAIEngine(server.url, card_of(server), name="simulated")


async def set_faults(control_url: str, *faults: Fault, seed: int = 0) -> None:
    """What goes wrong from now on; nothing, without faults."""
    plan = msgspec.json.encode(FaultPlan(faults=list(faults), seed=seed))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{control_url}/faults", data=plan) as response,
    ):
        assert response.status == 200, await response.text()


async def simulation_of(control_url: str) -> Simulation:
    """What the engine has done so far."""
    async with aiohttp.ClientSession() as session, session.get(f"{control_url}/simulation") as response:
        return msgspec.json.decode(await response.read(), type=Simulation)


async def records_of(control_url: str) -> list[RequestRecord]:
    """What became of each of its last requests, in the order in which they ended."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{control_url}/simulation/requests") as response,
    ):
        return msgspec.json.decode(await response.read(), type=list[RequestRecord])
