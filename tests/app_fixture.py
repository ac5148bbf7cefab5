"""The real API in a process of its own, over the test servers: what tests that come from outside talk to."""

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio

from engine_fixture import EngineServer
from triplane.adapters.embedded.postgres import EmbeddedPostgres
from waiting import until

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_READY_S = 60.0
_STOP_S = 20.0
_TRIPLANE = (sys.executable, "-m", "triplane.cli")


@dataclass(frozen=True, kw_only=True)
class AppServer:
    """A running API. `url` has no path; `environment` is what `triplane` commands need to reach its parts."""

    url: str
    key: str
    pid: int
    database_url: str
    environment: Mapping[str, str]

    @property
    def base_url(self) -> str:
        """What OpenAI's clients want to be given."""
        return f"{self.url}/v1"

    async def usage_rows(self, request_id: str) -> list[asyncpg.Record]:
        """The usage events of a request, once there are any. Raises TimeoutError."""
        rows: list[asyncpg.Record] = []
        database = await asyncpg.connect(self.database_url)

        async def are_written() -> bool:
            rows[:] = await database.fetch("SELECT * FROM usage_events WHERE request_id = $1", request_id)
            return bool(rows)

        try:
            await until(are_written, within_s=30)
        finally:
            await asyncio.wait_for(database.close(), 5.0)
        return rows


@contextmanager
def running_app(
    environment: Mapping[str, str], log_file: Path, wait_path: str = "/readyz"
) -> Iterator[AppServer]:
    """`triplane api` in this environment, on a free port, ended on leaving. Blocks for seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, descriptor = listener.getsockname()[1], listener.fileno()
        url = f"http://127.0.0.1:{port}"
        key = triplane(environment, "keys", "create", "test")
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                (*_TRIPLANE, "api"),
                env={**environment, "TRIPLANE_LISTEN_FD": str(descriptor)},
                pass_fds=(descriptor,),
                stdout=log,
                stderr=log,
            )
        try:
            _wait_until_ready(url + wait_path, process, log_file)
            yield AppServer(
                url=url,
                key=key,
                pid=process.pid,
                database_url=environment["TRIPLANE_DATABASE_URL"],
                environment=environment,
            )
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def triplane(environment: Mapping[str, str], *arguments: str) -> str:
    """What a `triplane` command prints on standard output."""
    done = subprocess.run(
        (*_TRIPLANE, *arguments),
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=_READY_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log_file: Path) -> None:
    deadline = time.monotonic() + _READY_S
    answer = "nothing"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            answer = error.read().decode()
        except OSError as error:
            answer = str(error)
        time.sleep(0.05)
    tail = log_file.read_text(errors="replace")[-3000:]
    raise AssertionError(f"The API isn't ready; {url} said {answer}. Its log ends:\n{tail}")


def app_environment(data_dir: Path, database_url: str, redis_url: str) -> dict[str, str]:
    """The settings of an API over these stores; its engine is for the caller to add."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TRIPLANE_", "OTEL_"))},
        "TRIPLANE_DATA_DIR": str(data_dir),
        "TRIPLANE_DATABASE_URL": database_url,
        "TRIPLANE_REDIS_URL": redis_url,
        "TRIPLANE_SECRET": secrets.token_urlsafe(32),
    }


def engine_environment(engine: EngineServer) -> dict[str, str]:
    return {
        "TRIPLANE_ENGINE_KIND": "llama_cpp",
        "TRIPLANE_ENGINE_URL": engine.url,
        "TRIPLANE_ENGINE_API_KEY": engine.api_key,
        "TRIPLANE_ENGINE_CONTEXT": str(engine.context_length),
        "TRIPLANE_MODEL": engine.model_id,
    }


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def app_database_url(postgres_server: EmbeddedPostgres, template_url: str) -> AsyncIterator[str]:
    """A migrated database that the whole run's API uses."""
    name = f"app_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(postgres_server.database_url("postgres"))
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE triplane")
        yield postgres_server.database_url(name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await asyncio.wait_for(admin.close(), 5.0)


@pytest.fixture(scope="session")
def app_server(
    app_database_url: str,
    redis_url: str,
    engine_server: EngineServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AppServer]:
    """One API for the whole run: tests that use it make their own conversations and leave others' alone."""
    data_dir = tmp_path_factory.mktemp("app")
    environment = app_environment(data_dir, app_database_url, redis_url)
    with running_app(environment | engine_environment(engine_server), data_dir / "api.log") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def openai_client(app_server: AppServer) -> "AsyncIterator[AsyncOpenAI]":
    """OpenAI's client as a user has it: an address and a key."""
    from openai import AsyncOpenAI  # here, because importing it takes longer than all unit tests

    async with AsyncOpenAI(base_url=app_server.base_url, api_key=app_server.key, max_retries=0) as made:
        yield made
