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
from triplane.adapters.embedded.server_folder import running
from triplane.adapters.postgres.migrations import migrate
from triplane.adapters.postgres.pool import open_database
from triplane.cli.listening import free_port

READY_S = 60.0
STOP_S = 20.0
CONTEXT_LENGTH = 2048
PARALLEL = 4
POSTGRES = {"fsync": "off", "max_connections": "150"}
"""PostgreSQL isn't killed here, and the machine's own death isn't what this suite is about."""

_PREFIX = "triplane-chaos-"
_PROGRAM = (sys.executable, "-m", "triplane.cli")


class Part:
    """One process, which can die, stall and come back. `url` is for asking whether it is there."""

    def __init__(self, name: str, environment: Mapping[str, str], log: IO[bytes]) -> None:
        self.name = name
        self.environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it in this thread: the kernel ends some processes with the thread that began them."""
        self._process = self._spawn(self._log)

    async def kill(self) -> None:
        """kill -9, as the kernel does when memory runs out."""
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal and wait for the end, which SIGKILL brings if need be."""
        process = self._process
        if process is None:
            return
        self.signal(number)
        try:
            await asyncio.to_thread(process.wait, STOP_S)
        except subprocess.TimeoutExpired:
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
        self._port = free_port()
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


class RedisServer(Part):
    """The embedded Redis, on the same socket after every restart."""

    def __init__(self, folder: Path, log: IO[bytes]) -> None:
        super().__init__("redis", os.environ, log)
        self.server = EmbeddedRedis(folder)

    async def start(self) -> None:
        await asyncio.to_thread(self.server.prepare)
        await super().start()
        await self.server.wait_ready()

    def _spawn(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.server.command(),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            **self.server.spawn_options(),
        )


class Cluster:
    """Everything that runs, and the key that its clients have."""

    def __init__(self, folder: Path, database_url: str, model_file: Path, workers: int) -> None:
        self.folder = folder
        self.database_url = database_url
        self._logs: list[IO[bytes]] = []
        self.redis = RedisServer(folder, self._log("redis"))
        self.engine_url = f"http://127.0.0.1:{free_port()}"
        self.engine_key = secrets.token_urlsafe(16)
        environment = app_environment(folder, database_url, self.redis.server.url) | {
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
        self.key = triplane(environment, "keys", "create", "chaos")

    @property
    def parts(self) -> list[Part]:
        return [self.redis, self.engine, *self.workers, self.job_worker]

    async def start(self) -> None:
        for part in self.parts:
            await part.start()
        await self.wait_ready()

    async def wait_ready(self) -> None:
        """Return once every worker can serve. Raises TimeoutError."""
        async with asyncio.timeout(READY_S), aiohttp.ClientSession() as http:
            for worker in self.workers:
                await _until_it_answers(http, worker)

    async def stop(self) -> None:
        """End everything, paused processes too. Nothing outlives this."""
        for part in reversed(self.parts):
            part.signal(signal.SIGCONT)
            await part.end(signal.SIGTERM)
        self.redis.server.release()
        for log in self._logs:
            log.close()

    def _log(self, name: str) -> IO[bytes]:
        log = (self.folder / f"{name}.log").open("ab")
        self._logs.append(log)
        return log


async def _until_it_answers(http: aiohttp.ClientSession, worker: ApiWorker) -> None:
    while True:
        assert worker.alive, "An API worker ended while it started; its log says why."
        with suppress(aiohttp.ClientError, TimeoutError):
            async with http.get(f"{worker.url}/readyz", timeout=aiohttp.ClientTimeout(total=5)) as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.1)


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
    postgres = EmbeddedPostgres(folder, POSTGRES)
    with (folder / "postgres.log").open("ab") as log:
        async with running(postgres, log):
            database = await open_database(postgres.url)
            await migrate(database)
            await database.close()
            cluster = await asyncio.to_thread(Cluster, folder, postgres.url, model_file, workers)
            try:
                await cluster.start()
                yield cluster
            except BaseException:
                say(f"The processes' logs are in {folder}.")
                raise
            finally:
                await cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)
