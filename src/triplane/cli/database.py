"""The database as commands see it: the one at the address, or the embedded one, started if need be.

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
from triplane.adapters.embedded.server_folder import DataFolderInUse, FolderLock, running
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


@contextlib.asynccontextmanager
async def database_url(settings: Settings) -> AsyncIterator[str]:
    """The address of a database that answers. Raises EmbeddedServerError."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    server = EmbeddedPostgres(settings.data_dir)
    folder = RunFolder(settings.data_dir)
    folder.make()
    async with contextlib.AsyncExitStack() as stack:
        log = stack.enter_context(folder.log_file("postgres").open("ab"))
        deadline = time.monotonic() + _BUSY_S
        while not await _is_served_and_answers(server, settings):
            try:
                await stack.enter_async_context(running(server, log))
                break
            except DataFolderInUse:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
        yield server.url


async def _is_served_and_answers(server: EmbeddedPostgres, settings: Settings) -> bool:
    """Whether it runs for good; one that another command has started would soon be gone."""
    return is_served(settings) and await _answers(server.url)


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=5.0)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close(timeout=5.0)
    return True


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Database]:
    """One connection to the database. Raises StoreUnavailable.

    It asks nothing of the session, so that it works behind PgBouncer too.
    """
    database = await open_database(url, pooled=True, size=1)
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


async def status(settings: Settings, say: Callable[[str], None]) -> int:
    """Say the database's version. 0 if it is this program's, 1 if something is to be done."""
    async with database_url(settings) as url, connected(url) as database:
        with plain_migration_errors():
            found = await migrations.status(database)
    if not found.pending:
        say(f"The database is at version {found.version}, which is this program's.")
        return 0
    say(
        f"The database is at version {found.version}, this program's is {found.pending[-1].version}. "
        "Run `triplane db migrate`; `triplane serve` does so by itself."
    )
    return 1


async def migrate_database(settings: Settings, say: Callable[[str], None]) -> None:
    async with database_url(settings) as url:
        await migrate(url, say)


async def backup_database(settings: Settings, file: Path) -> None:
    """Write the whole database to the new file. Raises CommandFailed."""
    from triplane.adapters.postgres.backup import BackupError, backup

    try:
        async with database_url(settings) as url:
            await asyncio.to_thread(backup, url, file)
    except BackupError as error:
        raise CommandFailed(str(error)) from error


async def restore_database(settings: Settings, file: Path, *, replace: bool) -> None:
    """Put a backup into the database, which nobody may be using. Raises CommandFailed."""
    from triplane.adapters.postgres.backup import BackupError, restore

    if is_served(settings):
        raise CommandFailed("The server of this data folder runs: stop it first.")
    try:
        async with database_url(settings) as url:
            await asyncio.to_thread(restore, url, file, replace=replace)
    except BackupError as error:
        raise CommandFailed(str(error)) from error
