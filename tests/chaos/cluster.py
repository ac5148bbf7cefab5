"""The processes under test, each one's own: stores, engine, API workers, job worker. Any may be killed."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

import aiohttp

from app_fixture import app_environment, triplane
from servers import sweep
from triplane.adapters.embedded.postgres import EmbeddedPostgres
from triplane.adapters.embedded.redis import EmbeddedRedis
from triplane.adapters.embedded.server_folder import EmbeddedServer
from triplane.adapters.postgres.migrations import migrate
from triplane.adapters.postgres.pool import open_database

READY_S = 120.0
STOP_S = 30.0
CONTEXT_LENGTH = 2048
PARALLEL = 4
POSTGRES = {"fsync": "off", "max_connections": "150"}
"""PostgreSQL is killed, but not the machine below it: what it has written outlives it without fsync."""

_PREFIX = "triplane-chaos-"
_PROGRAM = (sys.executable, "-m", "triplane.cli")


class Part:
    """One process, which can die, stall and come back. `url` is for asking whether it is there."""

    def __init__(self, name: str, environment: Mapping[str, str], log: IO[bytes]) -> None:
        self.name = name
        self.environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._told = False
        self.overdue = 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def has_ended_by_itself(self) -> bool:
        """Whether it has ended and nobody here had told it to."""
        return self._process is not None and not self._told and self._process.poll() is not None

    @property
    def status(self) -> int | None:
        """What it ended with."""
        return self._process.poll() if self._process else None

    async def start(self) -> None:
        """Start it in this thread: the kernel ends some processes with the thread that began them."""
        self._process = self._spawn(self._log)
        self._told = False

    async def kill(self) -> None:
        """kill -9, as the kernel does when memory runs out."""
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal and wait for the end, which SIGKILL brings if need be."""
        process = self._process
        if process is None:
            return
        self._told = True
        self.signal(number)
        try:
            await asyncio.to_thread(process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            self.overdue += 1
            self.signal(signal.SIGABRT)  # it writes to its log where it hangs
            await asyncio.sleep(1)
            process.kill()
            await asyncio.to_thread(process.wait, STOP_S)

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _spawn(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """A command of the program, named as this part is."""
        return subprocess.Popen(
            (*_PROGRAM, self.name), env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )


class ApiWorker(Part):
    """`triplane api`, at the same address after every restart; while it is dead, connections are refused."""

    def __init__(self, environment: Mapping[str, str], log: IO[bytes]) -> None:
        super().__init__("api", environment, log)
        self.reserved, self._port = _reserved_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def _spawn(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        with socket.create_server(("127.0.0.1", self._port), backlog=512) as listener:
            descriptor = listener.fileno()
            return subprocess.Popen(
                (*_PROGRAM, "api"),
                env=self.environment | {"TRIPLANE_LISTEN_FD": str(descriptor)},
                pass_fds=(descriptor,),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )


def _reserved_port() -> tuple[socket.socket, int]:
    """A port that stays ours while nobody listens on it, and a socket that keeps it so until it is closed.

    Else the kernel gives it to some outgoing connection while its process is dead.
    """
    keeper = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    keeper.bind(("127.0.0.1", 0))
    return keeper, int(keeper.getsockname()[1])


class StoreServer(Part):
    """An embedded PostgreSQL or Redis, on the same socket after every restart."""

    def __init__(self, server: EmbeddedServer, log: IO[bytes]) -> None:
        super().__init__(server.name, os.environ, log)
        self.server = server

    async def start(self) -> None:
        await asyncio.to_thread(self.server.prepare)
        await super().start()
        await self.server.wait_ready(READY_S)

    def _spawn(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.server.command(),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            **self.server.spawn_options(),
        )


class Cluster:
    """Everything that runs, and, once it does, the key that its clients have.

    It keeps its processes alive as a service manager does: `revive` starts again what has ended by itself,
    and notes it in `ended`.
    """

    def __init__(self, folder: Path, model_file: Path, workers: int) -> None:
        self.folder = folder
        self.key = ""
        self.keeps_logs = False
        self.ended: list[str] = []
        self._logs: list[IO[bytes]] = []
        self.postgres = StoreServer(EmbeddedPostgres(folder, POSTGRES), self._log("postgres"))
        self.redis = StoreServer(EmbeddedRedis(folder), self._log("redis"))
        self.database_url = self.postgres.server.url
        self._engine_port, port = _reserved_port()
        self.engine_url = f"http://127.0.0.1:{port}"
        self.engine_key = secrets.token_urlsafe(16)
        environment = app_environment(folder, self.database_url, self.redis.server.url) | {
            "PYTHONFAULTHANDLER": "1",
            "TRIPLANE_ENGINE_KIND": "llama_cpp",
            "TRIPLANE_ENGINE_URL": f"{self.engine_url}/v1",
            "TRIPLANE_ENGINE_API_KEY": self.engine_key,
            "TRIPLANE_ENGINE_CONTEXT": str(CONTEXT_LENGTH),
            "TRIPLANE_ENGINE_PARALLEL": str(PARALLEL),
            "TRIPLANE_MODEL": "smollm2",
            "TRIPLANE_MODEL_FILE": str(model_file),
        }
        self.engine = Part("engine", environment, self._log("engine"))
        self.workers = [ApiWorker(environment, self._log(f"api-{number}")) for number in range(workers)]
        self.job_worker = Part("worker", environment, self._log("worker"))

    @property
    def parts(self) -> list[Part]:
        return [self.postgres, self.redis, self.engine, *self.workers, self.job_worker]

    async def start(self) -> None:
        await self.postgres.start()
        database = await open_database(self.database_url)
        await migrate(database)
        await database.close()
        environment = self.job_worker.environment
        self.key = await asyncio.to_thread(triplane, environment, "keys", "create", "chaos")
        for part in self.parts[1:]:
            await part.start()
        await self.wait_ready()

    async def revive(self) -> None:
        for part in self.parts:
            if part.has_ended_by_itself:
                self.ended.append(f"{part.name} ended by itself, with status {part.status}")
                await part.start()

    async def wait_ready(self) -> None:
        """Return once every worker can serve. Raises TimeoutError."""
        async with asyncio.timeout(READY_S), aiohttp.ClientSession() as http:
            for worker in self.workers:
                while not await _answers(http, worker):
                    await self.revive()
                    await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """End everything, paused processes too. Nothing outlives this."""
        for part in reversed(self.parts):
            part.signal(signal.SIGCONT)
            await part.end(signal.SIGINT if part is self.postgres else signal.SIGTERM)
        for store in (self.postgres, self.redis):
            store.server.release()
        for reserved in (self._engine_port, *(worker.reserved for worker in self.workers)):
            reserved.close()
        for log in self._logs:
            log.close()

    def _log(self, name: str) -> IO[bytes]:
        log = (self.folder / f"{name}.log").open("ab")
        self._logs.append(log)
        return log


async def _answers(http: aiohttp.ClientSession, worker: ApiWorker) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with http.get(f"{worker.url}/readyz", timeout=aiohttp.ClientTimeout(total=5)) as response:
            return response.status == 200
    return False


def _sweep_all() -> None:
    for left_over in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        sweep(left_over)


@asynccontextmanager
async def running_cluster(
    model_file: Path, workers: int, say: Callable[[str], None] = print
) -> AsyncIterator[Cluster]:
    """A cluster in a data folder of its own, which is kept until the next run if anything goes wrong."""
    await asyncio.to_thread(_sweep_all)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    cluster = Cluster(folder, model_file, workers)
    try:
        await cluster.start()
        yield cluster
    except BaseException:
        say(f"The processes' logs are in {folder}.")
        raise
    finally:
        await cluster.stop()
    if not cluster.keeps_logs:
        shutil.rmtree(folder, ignore_errors=True)
