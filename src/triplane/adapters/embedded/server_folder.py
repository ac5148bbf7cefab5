"""What every embedded server needs of its folder: one owner at a time, a socket that fits, no orphans.

A folder is held through a file lock that the operating system drops when its holder dies, however it died.
So whoever holds the lock knows that a server still running in the folder is an orphan.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import signal
import stat
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import IO, Protocol, TypedDict

import psutil

LONGEST_SOCKET_PATH = 90
"""Bytes. The kernels' limit is 104 (macOS) or 108 (Linux); the rest is room for a server's own suffix."""

_STOP_TIMEOUT_S = 20.0


class EmbeddedServerError(Exception):
    """An embedded server can't be prepared or started; the message says why and what to do."""


class DataFolderInUse(EmbeddedServerError):
    """Another process that lives uses the folder."""


class SpawnOptions(TypedDict):
    """Keyword arguments for `subprocess.Popen` or `asyncio.create_subprocess_exec`.

    `user` None leaves the user as it is. The process group of its own keeps a terminal's Ctrl-C from the
    server: its supervisor stops it, after those who use it.
    """

    user: int | None
    group: int | None
    extra_groups: list[int] | None
    cwd: str
    process_group: int


class FolderLock:
    """Holds a folder for this process. Taking it twice is harmless; a child process doesn't inherit it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raises DataFolderInUse."""
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DataFolderInUse(
                f"{self._path.parent} is in use by another triplane process. "
                "Stop that one, or set TRIPLANE_DATA_DIR to another folder."
            ) from None
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def socket_folder(data_dir: Path, name: str) -> Path:
    """Where the server's Unix socket lies: in the data folder, or in /tmp if that path would be too long.

    It depends on `data_dir` alone, so that every command finds a running server.
    """
    inside = data_dir / "run" / name
    if len(os.fsencode(inside)) <= LONGEST_SOCKET_PATH - len("/.s.PGSQL.5432"):
        return inside
    key = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path("/tmp") / f"triplane-{key}-{name}"  # noqa: S108  made and checked by own_folder


def own_folder(folder: Path, owner: int | None = None) -> None:
    """Make the folder if need be, for `owner` (else this user) alone.

    Raises EmbeddedServerError if it is somebody else's: in /tmp anyone could have made it first.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = os.geteuid() if owner is None else owner
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid not in (wanted, os.geteuid()):
        raise EmbeddedServerError(f"{folder} belongs to another user. Remove it, or choose another folder.")
    if found.st_uid != wanted:
        os.chown(folder, wanted, -1)
    folder.chmod(0o700)


def stop_orphans(program: str, folder: Path) -> None:
    """Stop every `program` that works in `folder`. Call it only while holding the folder's lock."""
    orphans = [process for process in psutil.process_iter() if _works_in(process, program, folder)]
    for process in orphans:
        _signal(process, signal.SIGINT)
    _, alive = psutil.wait_procs(orphans, timeout=_STOP_TIMEOUT_S)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=_STOP_TIMEOUT_S)


def _works_in(process: psutil.Process, program: str, folder: Path) -> bool:
    try:
        return bool(process.name() == program and Path(process.cwd()) == folder.resolve())
    except (psutil.Error, OSError):
        return False


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


class EmbeddedServer(Protocol):
    """What a supervisor needs of a server: `prepare`, spawn `command` with `spawn_options`, `wait_ready`; to
    end it send `stop_signal`, wait, then `release`. After a crash of either, the same steps recover.
    """

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def stop_signal(self) -> signal.Signals: ...

    def prepare(self) -> None:
        """Take the folder and make ready to start; blocks. Raises EmbeddedServerError."""
        ...

    def command(self) -> list[str]: ...

    def spawn_options(self) -> SpawnOptions: ...

    async def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return once the server serves. Raises EmbeddedServerError when the time is up."""
        ...

    def release(self) -> None: ...


async def poll(answers: Callable[[], Awaitable[bool]], what: str, timeout_s: float) -> None:
    """Ask until `answers`: a server that starts announces nothing. Raises EmbeddedServerError."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                if await answers():
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise EmbeddedServerError(f"{what} wasn't ready within {timeout_s:.0f} s.") from None


@contextlib.asynccontextmanager
async def running(server: EmbeddedServer, log: IO[bytes] | None = None) -> AsyncIterator[None]:
    """The server, ready, for as long as the block lasts: for a process that has no supervisor."""
    await asyncio.to_thread(server.prepare)
    output = log or DEVNULL
    try:
        child = await asyncio.create_subprocess_exec(
            *server.command(), stdout=output, stderr=output, **server.spawn_options()
        )
        try:
            await _ready(server, child)
            yield
        finally:
            await _stop(child, server.stop_signal)
    finally:
        server.release()


async def _ready(server: EmbeddedServer, child: Process) -> None:
    """Wait until it serves; an early end of the process ends the wait."""
    ready = asyncio.create_task(server.wait_ready())
    ended = asyncio.create_task(child.wait())
    await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        raise EmbeddedServerError(f"{server.name} ended while it started (status {child.returncode}).")
    ended.cancel()
    await ready


async def _stop(child: Process, number: signal.Signals) -> None:
    if child.returncode is not None:
        return
    child.send_signal(number)
    try:
        await asyncio.wait_for(child.wait(), _STOP_TIMEOUT_S)
    except TimeoutError:
        child.kill()
        await child.wait()
