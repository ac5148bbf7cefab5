"""`triplane doctor`: looks at every part of a set-up and says in plain words what is wrong and what helps."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import msgspec

from triplane.adapters.embedded.redis import server_program
from triplane.adapters.embedded.run_folder import RunFolder, RunState
from triplane.adapters.embedded.server_folder import EmbeddedServerError
from triplane.cli.database import connected, is_served, plain_migration_errors
from triplane.cli.errors import CommandFailed
from triplane.cli.waiting import http_status
from triplane.domain.errors import TriplaneError
from triplane.inference.catalogue import Catalogue, CatalogueError, read_catalogue
from triplane.inference.engines.opening import EngineOpener
from triplane.inference.model_files import WHEEL_MODELS, is_whole
from triplane.settings import Settings

_FREE_BYTES_NEEDED = 2 * 10**9
_OLDEST_NODE = 20
_TIMEOUT_S = 10.0


class Finding(msgspec.Struct, frozen=True):
    """One line. `advice` None means that all is well with `subject`."""

    subject: str
    fact: str
    advice: str | None = None

    def __str__(self) -> str:
        if self.advice is None:
            return f"ok       {self.subject}: {self.fact}"
        return f"problem  {self.subject}: {self.fact} {self.advice}"


def examine(settings: Settings) -> int:
    """Print a line for each part. 0 if all is well, 1 if something is to be done."""
    problems = 0
    for finding in _findings(settings):
        print(finding, flush=True)
        problems += finding.advice is not None
    print("All is well." if not problems else f"{problems} thing(s) to set right.")
    return 1 if problems else 0


def _findings(settings: Settings) -> Iterator[Finding]:
    folder = RunFolder(settings.data_dir)
    state = folder.read_state()
    yield _python()
    yield _page(settings)
    yield _data_folder(settings.data_dir)
    yield _server(settings, folder, state)
    yield _port(settings, state)
    catalogue = yield from _catalogue(settings)
    if catalogue is None or catalogue.uses_embedded:
        yield _model(settings)
    yield _redis_program(settings)
    yield from asyncio.run(_reachable(settings, state))


def _python() -> Finding:
    return Finding("Python", f"version {'.'.join(str(part) for part in sys.version_info[:3])}")


def _page(settings: Settings) -> Finding:
    if (settings.web_dist / "index.html").exists():
        return Finding("Page", f"built, in {settings.web_dist}")
    node = _node_version()
    if node is None:
        return Finding("Page", "not built, and there is no Node.js.", "Install it, then run `make web`.")
    if node < _OLDEST_NODE:
        return Finding("Page", f"not built; Node.js is version {node}.", "Install 20, then run `make web`.")
    return Finding("Page", "not built.", "Run `make web`.")


def _node_version() -> int | None:
    node = shutil.which("node")
    if node is None:
        return None
    said = subprocess.run(  # noqa: S603  a program from PATH, our own words
        [node, "--version"], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    major = said.stdout.strip().removeprefix("v").split(".")[0]
    return int(major) if major.isdigit() else None


def _data_folder(folder: Path) -> Finding:
    place = folder
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK) or not place.is_dir():
        return Finding(
            "Data folder", f"{place} can't be written to.", "Change its owner, or set TRIPLANE_DATA_DIR."
        )
    free = shutil.disk_usage(place).free
    fact = f"{folder}, {free / 10**9:.1f} GB free"
    if free < _FREE_BYTES_NEEDED:
        return Finding("Data folder", f"{fact}.", "Make room, or set TRIPLANE_DATA_DIR to a larger disk.")
    return Finding("Data folder", fact)


def _server(settings: Settings, folder: RunFolder, state: RunState | None) -> Finding:
    if is_served(settings):
        if state is None or not state.ready:
            return Finding("Server", "starting or stopping.", "Look again in a minute.")
        return Finding("Server", f"runs at {state.url}")
    if folder.orphans():
        return Finding(
            "Server", "not running, but processes of an earlier run are.", "`triplane serve` stops them."
        )
    return Finding("Server", "not running; `triplane serve` starts it")


def _port(settings: Settings, state: RunState | None) -> Finding:
    if settings.port == 0:
        return Finding("Port", "any free one")
    if state is not None and state.url.endswith(f":{settings.port}"):
        return Finding("Port", f"{settings.port}, in use by this server")
    with socket.socket() as probe:
        probe.settimeout(1.0)
        if probe.connect_ex(("127.0.0.1", settings.port)) != 0:
            return Finding("Port", f"{settings.port} is free")
    return Finding("Port", f"{settings.port} is another program's; `triplane serve` takes the next free one")


def _catalogue(settings: Settings) -> Generator[Finding, None, Catalogue | None]:
    """The file as a whole, then each route whose key isn't there."""
    file = settings.catalogue
    if file is None:
        yield Finding("Catalogue", "none; the settings' one engine serves everything")
        return None
    try:
        catalogue = read_catalogue(file)
    except CatalogueError as error:
        yield Finding("Catalogue", f"{error}.", "docs/gateway.md shows every setting.")
        return None
    yield Finding("Catalogue", f"{file}, {len(catalogue.models)} models on {len(catalogue.routes)} routes")
    build = EngineOpener(embedded_url="http://127.0.0.1:1/v1")  # nothing is asked: only keys are looked for
    for name, route in catalogue.routes.items():
        try:
            build(name, route, route.urls[0])
        except CatalogueError as error:
            yield Finding("Catalogue", f"{error}.", "Give the key, or take the route out.")
    return catalogue


def _model(settings: Settings) -> Finding:
    engine = settings.engine
    if engine.url is not None:
        return Finding("Model file", f"not needed: the engine is at {engine.url}")
    if engine.model_file is not None:
        if engine.model_file.is_file():
            return Finding("Model file", str(engine.model_file))
        return Finding("Model file", f"{engine.model_file} isn't there.", "Set TRIPLANE_MODEL_FILE anew.")
    model = WHEEL_MODELS.get(engine.model)
    if model is None:
        known = ", ".join(WHEEL_MODELS)
        return Finding(
            "Model file",
            f"no model is named {engine.model}.",
            f"Set TRIPLANE_MODEL to {known}, or TRIPLANE_MODEL_FILE to a GGUF file.",
        )
    path = settings.models_dir / model.file_name
    if not path.exists():
        return Finding("Model file", f"not here yet; `triplane serve` fetches {engine.model}")
    if not is_whole(path, model.sha256):
        return Finding("Model file", f"{path} is damaged.", f"Run `triplane models pull {engine.model}`.")
    return Finding("Model file", f"{path}, checksum right")


def _redis_program(settings: Settings) -> Finding:
    if settings.redis_url is not None:
        return Finding("Redis program", "not needed: TRIPLANE_REDIS_URL is set")
    try:
        return Finding("Redis program", server_program())
    except EmbeddedServerError as error:
        return Finding("Redis program", "missing.", str(error))


async def _reachable(settings: Settings, state: RunState | None) -> list[Finding]:
    """The servers that have an address, from the settings or from the server that runs."""
    known = state or RunState(pid=0, started_at=0.0, url="")
    database = settings.database_url or known.database_url
    redis = settings.redis_url or known.redis_url
    engine = settings.engine.url or known.engine_url
    key = settings.engine.api_key or known.engine_api_key
    findings = []
    if database:
        findings.append(await _database(database))
    if redis:
        findings.append(await _redis(redis))
    if engine:
        findings.append(await _engine(engine, key))
    if state is not None and state.ready:
        findings.append(await _api(state.url))
    return findings


async def _database(url: str) -> Finding:
    from triplane.adapters.postgres.migrations import require_current

    try:
        async with asyncio.timeout(_TIMEOUT_S), connected(url) as database:
            with plain_migration_errors():
                await require_current(database)
    except CommandFailed as error:
        return Finding("PostgreSQL", "answers, but its tables don't fit.", str(error))
    except (TriplaneError, TimeoutError):
        return Finding("PostgreSQL", "doesn't answer.", "Check TRIPLANE_DATABASE_URL, or logs/postgres.log.")
    return Finding("PostgreSQL", "answers, and its tables are this program's version")


async def _redis(url: str) -> Finding:
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    try:
        async with client:
            await client.ping()
    except (redis.RedisError, OSError) as error:
        return Finding("Redis", f"doesn't answer ({error}).", "Check TRIPLANE_REDIS_URL and that it runs.")
    return Finding("Redis", "answers")


async def _engine(url: str, key: str | None) -> Finding:
    import aiohttp

    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_TIMEOUT_S)) as session,
            session.get(f"{url.rstrip('/')}/models", headers=headers) as response,
        ):
            status = response.status
    except (aiohttp.ClientError, TimeoutError):
        return Finding("Engine", f"nothing answers at {url}.", "Check TRIPLANE_ENGINE_URL and that it runs.")
    if status in (401, 403):
        return Finding("Engine", f"refuses the key (status {status}).", "Check TRIPLANE_ENGINE_API_KEY.")
    if status != 200:
        return Finding("Engine", f"answers with status {status}.", "It may be loading; see its log.")
    return Finding("Engine", f"answers at {url}")


async def _api(url: str) -> Finding:
    status = await http_status(f"{url}/readyz")
    if status == 200:
        return Finding("API", "ready")
    return Finding("API", f"not ready (status {status}).", f"Open {url}/readyz: it names what is missing.")
