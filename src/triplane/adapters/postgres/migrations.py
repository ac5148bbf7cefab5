"""The schema's versions: numbered SQL files, applied forward only, each recorded with its checksum.

All that is pending is applied in one transaction under an advisory lock: processes that start at once migrate
once, and a failure leaves the database as it was.
"""

import hashlib
import re
from datetime import datetime
from importlib.resources import files

import asyncpg
import msgspec

from triplane.adapters.postgres.pool import Database

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_LOCK = 0x7472_6970_6C61_6E65  # "triplane"
_TIMEOUT_S = 600.0


class MigrationError(Exception):
    """The database and this program don't fit; the message says what to do."""


class SchemaPending(MigrationError):
    """The database is older than the program."""


class SchemaNewer(MigrationError):
    """The database was migrated by a newer program."""


class SchemaDamaged(MigrationError):
    """The recorded versions aren't those of this program: one is missing or has another content."""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


class AppliedMigration(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    name: str
    checksum: str
    applied_at: datetime


class SchemaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What was applied, and what this program still has to apply."""

    applied: list[AppliedMigration]
    pending: list[Migration]

    @property
    def version(self) -> int:
        """The database's version; 0 is an empty one."""
        return self.applied[-1].version if self.applied else 0


def known_migrations() -> list[Migration]:
    """The migrations that this program carries, in order."""
    found = []
    for file in (files(__package__) / "migrations").iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            sql = file.read_text(encoding="utf-8")
            found.append(Migration(version=int(match[1]), name=match[2], sql=sql))
    return sorted(found, key=lambda migration: migration.version)


async def status(database: Database) -> SchemaStatus:
    """Raises SchemaNewer, SchemaDamaged."""
    async with database.connection() as connection, connection.transaction(readonly=True):
        return await _status(connection)


async def migrate(database: Database) -> list[Migration]:
    """Apply what is pending and return it. Raises SchemaNewer, SchemaDamaged.

    A migration that fails raises the database's own error; nothing has changed then.
    """
    async with database.connection() as connection, connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})", timeout=_TIMEOUT_S)
        await connection.execute(_CREATE_TABLE)
        pending = (await _status(connection)).pending
        for migration in pending:
            await connection.execute(migration.sql, timeout=_TIMEOUT_S)
            await connection.execute(_RECORD, migration.version, migration.name, migration.checksum)
        return pending


async def require_current(database: Database) -> None:
    """Raises SchemaPending, SchemaNewer or SchemaDamaged unless this program can serve this database."""
    found = await status(database)
    if found.pending:
        raise SchemaPending(
            f"The database has version {found.version}, this triplane needs {found.pending[-1].version}. "
            "Run `triplane db migrate`."
        )


_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""

_RECORD = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)"


async def _status(connection: asyncpg.Connection) -> SchemaStatus:
    known = known_migrations()
    applied = await _applied(connection)
    if len(applied) > len(known):
        raise SchemaNewer(
            f"The database has version {applied[-1].version}, this triplane knows {known[-1].version}. "
            "Install the newer triplane, or restore a backup made before it."
        )
    for record, migration in zip(applied, known, strict=False):
        if (record.version, record.checksum) != (migration.version, migration.checksum):
            raise SchemaDamaged(
                f"Migration {record.version} ({record.name}) in the database isn't the one of this triplane. "
                "Restore a backup, or install the triplane that made this database."
            )
    return SchemaStatus(applied=applied, pending=known[len(applied) :])


async def _applied(connection: asyncpg.Connection) -> list[AppliedMigration]:
    if await connection.fetchval("SELECT to_regclass('schema_migrations') IS NULL"):
        return []
    rows = await connection.fetch(
        "SELECT version, name, checksum, applied_at FROM schema_migrations ORDER BY version"
    )
    return [AppliedMigration(**row) for row in rows]
