"""The processes of a split set-up: what `triplane serve` starts, and what an operator may start alone."""

import asyncio
import os
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import uvloop

from triplane.cli.errors import CommandFailed
from triplane.settings import Settings

_LISTEN_FD = "TRIPLANE_LISTEN_FD"
"""The socket that `triplane serve` hands to its API workers."""


def run_api_process(settings: Settings) -> None:
    """One API worker, on the socket that was handed over or on the settings' address."""
    from triplane.cli.listening import listen
    from triplane.main.api import run_api

    _require_addresses(settings)
    handed = os.environ.get(_LISTEN_FD)
    listening = socket.socket(fileno=int(handed)) if handed else listen(settings.host, settings.port).socket
    with suppress(asyncio.CancelledError):  # told to stop while it started
        uvloop.run(run_api(settings, listening))


def run_worker_process(settings: Settings) -> None:
    from triplane.main.worker import run_worker

    _require_addresses(settings)
    uvloop.run(run_worker(settings))


def run_engine_process(settings: Settings) -> None:
    """The embedded engine, on the port of TRIPLANE_ENGINE_URL, open to TRIPLANE_ENGINE_API_KEY alone."""
    from triplane.adapters.embedded.llama_cpp import EmbeddedEngineConfig, run_engine
    from triplane.cli.models import model_file

    engine = settings.engine
    if not engine.api_key or not engine.url:
        raise CommandFailed(
            "The engine needs TRIPLANE_ENGINE_URL (http://127.0.0.1:PORT/v1) and TRIPLANE_ENGINE_API_KEY."
        )
    address = urlsplit(engine.url)
    config = EmbeddedEngineConfig(
        model_path=model_file(settings, lambda line: print(line, flush=True)),
        model_id=engine.model,
        api_key=engine.api_key,
        run_dir=settings.data_dir / "run",
        host=address.hostname or "127.0.0.1",
        port=address.port or 80,
        context_length=engine.context_length,
        parallel=engine.parallel,
    )
    run_engine(config)


def _require_addresses(settings: Settings) -> None:
    addresses = {
        "TRIPLANE_DATABASE_URL": settings.database_url,
        "TRIPLANE_REDIS_URL": settings.redis_url,
        "TRIPLANE_ENGINE_URL": settings.engine.url or settings.catalogue or settings.gateway.address,
        "TRIPLANE_SECRET": settings.secret,
    }
    missing = [name for name, address in addresses.items() if not address]
    if missing:
        raise CommandFailed(f"Set {', '.join(missing)} first; `triplane serve` needs none of them.")
