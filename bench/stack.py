"""The whole stack as a user starts it, `triplane serve`, in a data folder of the benchmark's own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec
import psutil

from bench.client import BenchFailed, Target

_TRIPLANE = (sys.executable, "-m", "triplane.cli")
_START_S = 240.0
_STOP_S = 30.0


class _State(msgspec.Struct):
    """What the benchmark needs of DATA_DIR/run/state.json."""

    url: str
    ready: bool = False
    engine_url: str | None = None
    engine_api_key: str | None = None
    database_url: str | None = None
    redis_url: str | None = None


class _ChildRecord(msgspec.Struct):
    name: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class Stack:
    """`planes` goes through all three planes, `engine` straight to the engine behind them."""

    planes: Target
    engine: Target
    database_url: str
    redis_url: str
    workers: tuple[psutil.Process, ...]

    @property
    def port(self) -> int:
        """Of the planes."""
        return int(urlsplit(self.planes.url).port or 80)

    def cpu_s(self) -> float:
        """CPU seconds of the API workers since they started."""
        times = [worker.cpu_times() for worker in self.workers]
        return float(sum(each.user + each.system for each in times))

    def memory_bytes(self) -> int:
        return sum(int(worker.memory_info().rss) for worker in self.workers)


@asynccontextmanager
async def running_stack(data_dir: Path, settings: Mapping[str, str], model: str) -> AsyncIterator[Stack]:
    """`triplane serve` with these settings; stopped with Ctrl-C's signal on leaving."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TRIPLANE_", "OTEL_"))},
        "TRIPLANE_DATA_DIR": str(data_dir),
        "TRIPLANE_PORT": "0",
        "TRIPLANE_LOG_LEVEL": "warning",
        "TRIPLANE_MODEL": model,
        **settings,
    }
    with (data_dir / "serve.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *_TRIPLANE, "serve", env=environment, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL
        )
    try:
        state = await asyncio.wait_for(_until_ready(data_dir, process), _START_S)
        key = await _output(environment, "keys", "create", "bench")
        yield _stack(data_dir, state, key, model)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), _STOP_S)


def _stack(data_dir: Path, state: _State, key: str, model: str) -> Stack:
    records = msgspec.json.decode((data_dir / "run" / "children.json").read_bytes(), type=list[_ChildRecord])
    workers = tuple(psutil.Process(record.pid) for record in records if record.name.startswith("api"))
    if not workers or not state.engine_url or not state.database_url or not state.redis_url:
        raise BenchFailed("the running server names no API worker, no engine or no store")
    return Stack(
        planes=Target(url=f"{state.url}/v1", key=key, model=model),
        engine=Target(url=state.engine_url, key=state.engine_api_key or "", model=model),
        database_url=state.database_url,
        redis_url=state.redis_url,
        workers=workers,
    )


async def _until_ready(data_dir: Path, process: asyncio.subprocess.Process) -> _State:
    while process.returncode is None:
        state = _read_state(data_dir / "run" / "state.json")
        if state and state.ready and await _answers(f"{state.url}/readyz"):
            return state
        await asyncio.sleep(0.1)
    tail = (data_dir / "serve.log").read_text(errors="replace")[-2000:]
    raise BenchFailed(f"`triplane serve` ended:\n{tail}")


def _read_state(file: Path) -> _State | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_State)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def _output(environment: Mapping[str, str], *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *_TRIPLANE, *arguments, env=dict(environment), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    if process.returncode:
        raise BenchFailed(f"`triplane {' '.join(arguments)}` failed")
    return output.decode().strip()
