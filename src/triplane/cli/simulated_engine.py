"""`triplane simulated-engine`: one simulated engine in the foreground, until it is told to stop."""

import asyncio
import signal
from collections.abc import Sequence

import msgspec
import uvloop

from triplane.cli.errors import CommandFailed
from triplane.inference.simulated_engine.faults import Fault, FaultPlan
from triplane.inference.simulated_engine.options import EngineOptions
from triplane.inference.simulated_engine.profiles import UnknownProfile
from triplane.inference.simulated_engine.roofline import ModelTooLarge
from triplane.inference.simulated_engine.server import running_simulated_engine


def fault_plan(faults: Sequence[str], seed: int) -> FaultPlan:
    """The faults as the command line has them, each an object in JSON. Raises CommandFailed."""
    try:
        return FaultPlan(faults=[msgspec.json.decode(fault, type=Fault) for fault in faults], seed=seed)
    except msgspec.DecodeError as error:
        raise CommandFailed(
            f"A --fault can't be read: {error}. docs/simulated-engine.md lists them."
        ) from None


def run_simulated_engine(options: EngineOptions, host: str, port: int, control_port: int) -> None:
    """Serve until SIGTERM or SIGINT; the addresses go to standard output. Raises CommandFailed."""
    try:
        uvloop.run(_serve(options, host, port, control_port))
    except (UnknownProfile, ModelTooLarge) as error:
        raise CommandFailed(str(error)) from None


async def _serve(options: EngineOptions, host: str, port: int, control_port: int) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with running_simulated_engine(options, host, port, control_port) as server:
        engine = server.engine
        print(
            f"Simulated engine: {engine.model_id} on {options.gpus} × {options.gpu}, "
            f"{engine.scheduler.pool.size} KV blocks, speed {options.speed:g}. No model runs here.",
            flush=True,
        )
        print(f"Control: {server.control_url}", flush=True)
        print(f"Ready: {server.url}", flush=True)
        await told.wait()
