"""`triplane serve`: one foreground process that starts every part, keeps it alive and stops it.

Order: PostgreSQL and Redis (unless the settings give addresses), the database's migrations and the engine,
the API workers on one shared socket, the job worker.
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

import msgspec

from triplane.adapters.embedded.child import ChildSpec, at_once
from triplane.adapters.embedded.postgres import EmbeddedPostgres
from triplane.adapters.embedded.redis import EmbeddedRedis
from triplane.adapters.embedded.run_folder import RunFolder, RunState, start_time
from triplane.adapters.embedded.server_folder import own_folder, socket_folder
from triplane.adapters.embedded.supervisor import Supervisor, run_until_told
from triplane.cli.accounts import new_link
from triplane.cli.database import migrate, serve_lock
from triplane.cli.listening import Listener, free_port, listen
from triplane.cli.models import model_file, uses_embedded_engine
from triplane.cli.secret import signing_secret
from triplane.cli.waiting import answers, listens, patiently
from triplane.settings import Settings
from triplane.telemetry.shared_metrics import start_shared_metrics

_COMMAND_WAIT_S = 30.0


def say(line: str) -> None:
    """One plain line for the person at the terminal."""
    print(line, flush=True)


def serve(settings: Settings) -> None:
    """Serve until told to stop. Raises EmbeddedServerError, TriplaneError."""
    folder = RunFolder(settings.data_dir)
    folder.make()
    lock = serve_lock(settings)
    lock.take()
    orphans = folder.end_orphans()
    if orphans:
        say(f"Stopped {len(orphans)} processes that an earlier run had left.")
    listener = listen(settings.host, settings.port)
    if listener.port != settings.port and settings.port != 0:
        say(f"Port {settings.port} is taken; port {listener.port} it is.")
    server = Server(settings, folder, listener)
    asyncio.run(run_until_told(server.start, server.stop, say))
    lock.release()


@dataclass
class Server:
    """Everything that `triplane serve` runs. `environment` is what its processes get to know."""

    settings: Settings
    folder: RunFolder
    listener: Listener
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def __post_init__(self) -> None:
        self._supervisor = Supervisor(self.folder, say)
        self._releases: list[Callable[[], None]] = []
        self._state = RunState(
            pid=os.getpid(), started_at=start_time(os.getpid()) or time.time(), url=self.listener.url
        )
        self.environment |= {
            "TRIPLANE_SECRET": signing_secret(self.settings),
            "TRIPLANE_DATA_DIR": str(self.settings.data_dir),
            "PYTHONUNBUFFERED": "1",
            **start_shared_metrics(self.folder.folder / "metrics"),
        }

    async def start(self) -> None:
        began = time.monotonic()
        await self._start_stores()
        await _together(
            migrate(self.environment["TRIPLANE_DATABASE_URL"], say),
            self._start_engine(),
        )
        await self._start_gateway()
        say("Starting the API …")
        await self._start_workers()
        self._note(ready=True)
        await self._greet(time.monotonic() - began)

    async def stop(self) -> None:
        await self._supervisor.stop()
        for release in self._releases:
            release()
        self.folder.clear_state()

    async def _start_stores(self) -> None:
        """The embedded servers that no address stands in for."""
        specs = []
        if self.settings.database_url is None:
            specs.append(self._store(EmbeddedPostgres(self.settings.data_dir), "PostgreSQL", "DATABASE"))
        if self.settings.redis_url is None:
            specs.append(self._store(EmbeddedRedis(self.settings.data_dir), "Redis", "REDIS"))
        for spec in specs:
            say(f"Starting {spec.title} …")
        await self._supervisor.start(*specs)
        self._note()

    def _store(self, server: EmbeddedPostgres | EmbeddedRedis, title: str, variable: str) -> ChildSpec:
        """The child that runs this server; its address goes to all who come after."""
        self._releases.append(server.release)
        self.environment[f"TRIPLANE_{variable}_URL"] = server.url
        return ChildSpec(
            name=server.name,
            title=title,
            command=server.command(),
            prepare=patiently(server.prepare, _COMMAND_WAIT_S),
            ready=server.wait_ready,
            ready_timeout_s=90.0,
            stop_signal=server.stop_signal,
            stop_timeout_s=20.0,
            spawn_options=server.spawn_options,
        )

    async def _start_engine(self) -> None:
        if self.settings.engine.url is not None or not uses_embedded_engine(self.settings):
            return
        file = await asyncio.to_thread(model_file, self.settings, say)
        port = free_port()
        self.environment |= {
            "TRIPLANE_ENGINE_KIND": "llama_cpp",
            "TRIPLANE_ENGINE_URL": f"http://127.0.0.1:{port}/v1",
            "TRIPLANE_ENGINE_API_KEY": secrets.token_urlsafe(32),
            "TRIPLANE_MODEL_FILE": str(file),
        }
        say("Starting the engine …")
        health = answers(f"http://127.0.0.1:{port}/health")
        await self._supervisor.start(
            self._own("engine", title="The engine", ready=health, ready_timeout_s=180.0, stop_timeout_s=3.0)
        )
        self._note()

    async def _start_gateway(self) -> None:
        """Several API workers share one gateway, so that its queues and slots hold for all of them."""
        if self.settings.workers == 1 or self.settings.gateway.address is not None:
            return
        folder = socket_folder(self.settings.data_dir, "gateway")
        own_folder(folder)
        place = folder / "gateway.sock"
        place.unlink(missing_ok=True)
        self.environment["TRIPLANE_GATEWAY"] = f"unix:{place}"
        say("Starting the gateway …")
        command = ("gateway", "--grpc", f"unix:{place}")
        await self._supervisor.start(self._own(*command, title="The gateway", ready=listens(place)))

    async def _start_workers(self) -> None:
        descriptor = self.listener.socket.fileno()
        self.environment["TRIPLANE_LISTEN_FD"] = str(descriptor)
        ready = answers(f"{self.listener.url}/readyz")
        workers = [
            self._own(
                "api", title=f"API worker {number}", name=f"api-{number}", ready=ready, pass_fds=(descriptor,)
            )
            for number in range(1, self.settings.workers + 1)
        ]
        await self._supervisor.start(*workers)
        await self._supervisor.start(self._own("worker", title="The job worker"))

    async def _greet(self, seconds: float) -> None:
        url = self.settings.public_url or self.listener.url
        link = await new_link(
            self.environment["TRIPLANE_DATABASE_URL"], self.environment["TRIPLANE_SECRET"], url
        )
        if not (self.settings.web_dist / "index.html").exists():
            say("The page isn't built (`make web` does that). The API and `triplane chat` work.")
        say(f"Triplane is ready: {url}")
        say(f"Sign in once: {link}")
        say(f"Started in {seconds:.1f} s. Logs: {self.folder.logs}. Ctrl-C stops everything.")

    def _own(
        self,
        *command: str,
        title: str,
        name: str | None = None,
        ready: Callable[[], Awaitable[None]] = at_once,
        ready_timeout_s: float = 60.0,
        stop_timeout_s: float = 8.0,
        pass_fds: tuple[int, ...] = (),
    ) -> ChildSpec:
        """A process of this same program."""
        return ChildSpec(
            name=name or command[0],
            title=title,
            command=(sys.executable, "-m", "triplane.cli", *command),
            environment=dict(self.environment),
            ready=ready,
            ready_timeout_s=ready_timeout_s,
            stop_timeout_s=stop_timeout_s,
            pass_fds=pass_fds,
        )

    def _note(self, ready: bool = False) -> None:
        """Tell other commands where things are by now."""
        known = self.environment
        self._state = msgspec.structs.replace(
            self._state,
            ready=ready,
            database_url=known.get("TRIPLANE_DATABASE_URL"),
            redis_url=known.get("TRIPLANE_REDIS_URL"),
            engine_url=known.get("TRIPLANE_ENGINE_URL"),
            engine_api_key=known.get("TRIPLANE_ENGINE_API_KEY"),
        )
        self.folder.write_state(self._state)


async def _together(*steps: Coroutine[None, None, None]) -> None:
    """Run the steps at once. The first failure ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
