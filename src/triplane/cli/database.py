"""The database as commands see it: the one at the address, or the embedded one, running or started for a moment.

A command that needs the embedded PostgreSQL while `triplane serve` doesn't run starts it, does its work and
stops it; `triplane serve` waits for that, and so does a second command.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg

from triplane.adapters.embedded.postgres import EmbeddedPostgres
from triplane.adapters.embedded.run_folder import RunFolder
from triplane.adapters.embedded.server_folder import DataFolderInUse, FolderLock
from triplane.adapters.postgres import migrations
from triplane.adapters.postgres.pool import Database, open_database
from triplane.cli.errors import CommandFailed
from triplane.settings import Settings

_BUSY_S = 60.0


def serve_lock(settings: Settings) -> FolderLock:
    """Held by `triplane serve` as long as it lives."""
    return FolderLock(settings.data_dir / "serve.lock")


def is_served(settings: Settings) -> bool:
    """Whether a `triplane serve` runs on this data folder."""
    if not settings.data_dir.is_dir():
        return False
    lock = serve_lock(settings)
    try:
        lock.take()
    except DataFolderInUse:
        return True
    lock.release()
    return False


@contextlib.contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """The address of a database that answers. Raises EmbeddedServerError."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    server = EmbeddedPostgres(settings.data_dir)
    started = _start_unless_served(server, settings)
    try:
        yield server.url
    finally:
        if started:
            server.stop()


def _start_unless_served(server: EmbeddedPostgres, settings: Settings) -> bool:
    """True if this call started the server, False if `triplane serve` runs it."""
    folder = RunFolder(settings.data_dir)
    folder.make()
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            with folder.log_file("postgres").open("ab") as log:
                server.start(log)
        except DataFolderInUse:
            if is_served(settings) and asyncio.run(_answers(server.url)):
                return False
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return True


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=5.0)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close(timeout=5.0)
    return True


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Database]:
    """One connection to the database. Raises StoreUnavailable."""
    database = await open_database(url, size=1)
    try:
        yield database
    finally:
        await database.close()


async def migrate(url: str, say: Callable[[str], None]) -> None:
    """Bring the database to this program's version. Raises CommandFailed."""
    async with connected(url) as database:
        with plain_migration_errors():
            for migration in await migrations.migrate(database):
                say(f"The database is now at version {migration.version} ({migration.name}).")


@contextlib.contextmanager
def plain_migration_errors() -> Iterator[None]:
    try:
        yield
    except migrations.MigrationError as error:
        raise CommandFailed(str(error)) from error


def status(settings: Settings, say: Callable[[str], None]) -> int:
    """Say the database's version. 0 if it is this program's, 1 if something is to be done."""

    async def read(url: str) -> migrations.SchemaStatus:
        async with connected(url) as database:
            with plain_migration_errors():
                return await migrations.status(database)

    with database_url(settings) as url:
        found = asyncio.run(read(url))
    if not found.pending:
        say(f"The database is at version {found.version}, which is this program's.")
        return 0
    say(
        f"The database is at version {found.version}, this program's is {found.pending[-1].version}. "
        "Run `triplane db migrate`; `triplane serve` does so by itself."
    )
    return 1


def migrate_database(settings: Settings, say: Callable[[str], None]) -> None:
    with database_url(settings) as url:
        asyncio.run(migrate(url, say))


def backup_database(settings: Settings, file: Path) -> None:
    """Write the whole database to `file`."""
    from triplane.adapters.postgres.backup import backup

    with database_url(settings) as url:
        backup(url, file)


def restore_database(settings: Settings, file: Path) -> None:
    from triplane.adapters.postgres.backup import restore

    with database_url(settings) as url:
        restore(url, file)
