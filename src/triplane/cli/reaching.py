"""Which server a command talks to, and by which key: those that were given, else this machine's own."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from triplane.adapters.embedded.run_folder import RunFolder, write_private
from triplane.cli.errors import CommandFailed
from triplane.domain.errors import Unauthenticated
from triplane.settings import Settings

_KEY_NAME = "terminal"

T = TypeVar("T")


def with_server(settings: Settings, url: str | None, key: str | None, use: Callable[[str, str], T]) -> T:
    """Call `use` with an address and a key. Raises CommandFailed, and what `use` raises."""
    server = url or _running_server(settings)
    if key is not None:
        return use(server, key)
    if url is not None:
        raise CommandFailed("A server at --url needs a key: give --key, or set TRIPLANE_API_KEY.")
    try:
        return use(server, _own_key(settings))
    except Unauthenticated:
        # The key was revoked, or the database is another one by now.
        key_file(settings).unlink()
        return use(server, _own_key(settings))


def key_file(settings: Settings) -> Path:
    return settings.data_dir / "run" / "cli.key"


def _running_server(settings: Settings) -> str:
    state = RunFolder(settings.data_dir).read_state()
    if state is None:
        raise CommandFailed(
            "No server runs on this machine's data folder. Start `triplane serve`, or give --url and --key."
        )
    return state.url


def _own_key(settings: Settings) -> str:
    """The terminal's own key of the local server, made on first use."""
    file = key_file(settings)
    if not file.exists():
        from triplane.cli.accounts import create_key

        write_private(file, asyncio.run(create_key(settings, _KEY_NAME)).encode())
    return file.read_text().strip()
