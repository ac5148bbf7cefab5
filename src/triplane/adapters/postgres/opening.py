"""The database as a process finds it when it starts: perhaps not there yet, perhaps of another version."""

import asyncio
from contextlib import AsyncExitStack

import structlog

from triplane.adapters.postgres.migrations import require_current
from triplane.adapters.postgres.pool import Database, open_database
from triplane.domain.errors import StoreUnavailable

PATIENCE_S = 30.0
"""How long a process that starts waits for the database. One that restarts must not look like a crash loop,
after which a service manager gives up on us (systemd after five ends in ten seconds) or waits for minutes."""

_TRY_EVERY_S = 0.5

_log = structlog.get_logger(__name__)


async def open_current_database(
    url: str, *, pooled: bool = False, patience_s: float = PATIENCE_S
) -> Database:
    """Connect to a database that this program can serve, as `open_database` does.

    Raises StoreUnavailable once patience is at an end, and MigrationError at once.
    """
    clock = asyncio.get_running_loop().time
    patient_until = clock() + patience_s
    while True:
        try:
            return await _open(url, pooled)
        except StoreUnavailable as error:
            if clock() > patient_until:
                raise
            _log.warning("the database isn't there yet", reason=type(error.__cause__).__name__)
        await asyncio.sleep(_TRY_EVERY_S)


async def _open(url: str, pooled: bool) -> Database:
    async with AsyncExitStack() as unless_current:
        database = await open_database(url, pooled=pooled)
        unless_current.push_async_callback(database.close)
        await require_current(database)
        unless_current.pop_all()
        return database
