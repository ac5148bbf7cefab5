"""Waiting for a server to answer, with nothing but the standard library: the supervisor stays small."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from triplane.adapters.embedded.server_folder import DataFolderInUse

_TRY_TIMEOUT_S = 5.0
_PAUSE_S = 0.05


def answers(url: str) -> Callable[[], Awaitable[None]]:
    """A wait that ends once a GET of the URL gives status 200. The caller bounds its time."""

    async def wait() -> None:
        while True:
            if await http_status(url) == 200:
                return
            await asyncio.sleep(_PAUSE_S)

    return wait


def listens(socket: Path) -> Callable[[], Awaitable[None]]:
    """A wait that ends once something accepts connections at this Unix socket. The caller bounds its time."""

    async def wait() -> None:
        while True:
            try:
                _, writer = await asyncio.open_unix_connection(socket)
            except OSError:
                await asyncio.sleep(_PAUSE_S)
                continue
            writer.close()
            return

    return wait


async def http_status(url: str, timeout_s: float = _TRY_TIMEOUT_S) -> int | None:
    """The status of a GET; None if nothing answers in time."""
    parts = urlsplit(url)
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
            try:
                writer.write(request.encode())
                words = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def patiently(prepare: Callable[[], None], patience_s: float) -> Callable[[], None]:
    """`prepare`, tried again while another command of ours has the data folder for a moment."""

    def wait() -> None:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return prepare()
            except DataFolderInUse:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    return wait
