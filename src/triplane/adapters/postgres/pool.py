"""The way to PostgreSQL: one pool, a time limit on everything, and driver errors translated in one place.

Behind PgBouncer in transaction pooling (`pooled`), consecutive statements may run on different server
connections. So a session keeps no state here: no prepared statement is used twice (the driver parses and runs
an unnamed one without a Sync between, which keeps both on one connection), and nothing is set, listened to or
locked for longer than a transaction.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncpg

from triplane.domain.errors import InvalidRequest, StoreUnavailable

_ACQUIRE_TIMEOUT_S = 5.0
_STATEMENT_TIMEOUT_S = 15.0
_CONNECT_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 10.0


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection without a reset query: no session state is ever set, so a release costs nothing."""

    def get_reset_query(self) -> str:
        return ""


class Database:
    """Runs statements. Every method raises StoreUnavailable, and InvalidRequest for text with NUL."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for a caller who needs several statements in one transaction."""
        with translated_errors():
            async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT_S) as connection:
                yield connection

    async def fetch(self, sql: str, *arguments: object) -> Sequence[asyncpg.Record]:
        async with self.connection() as connection:
            rows: Sequence[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        async with self.connection() as connection:
            return await connection.fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: object) -> str:
        """Returns the command's tag, such as `UPDATE 1`."""
        async with self.connection() as connection:
            tag: str = await connection.execute(sql, *arguments)
            return tag

    async def check(self) -> None:
        """Raises StoreUnavailable unless PostgreSQL answers: for readiness."""
        await self.fetchval("SELECT 1")

    async def close(self) -> None:
        """Wait for the statements that run, then close every connection."""
        try:
            await asyncio.wait_for(self._pool.close(), _CLOSE_TIMEOUT_S)
        except TimeoutError:
            self._pool.terminate()


async def open_database(url: str, *, pooled: bool = False, size: int = 10) -> Database:
    """Connect, with up to `size` connections. `pooled`: the address is PgBouncer's, in transaction pooling.

    Raises StoreUnavailable.
    """
    with translated_errors():
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            connection_class=_Connection,
            init=_learn_types,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=_STATEMENT_TIMEOUT_S,
            statement_cache_size=0 if pooled else 200,
        )
    return Database(pool)


async def _learn_types(connection: asyncpg.Connection) -> None:
    """Have the driver look up the types it doesn't know now, and not within somebody's first request."""
    async with connection.transaction():
        every = "SELECT $1::text[], $2::json[], $3::int[], $4::bigint[], $5::bytea[]"
        await connection.fetchval(every, [], [], [], [], [])


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the driver's errors into ours. A fault of our own SQL stays what it is: a bug."""
    try:
        yield
    except (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError) as exc:
        raise InvalidRequest("The text has a character that can't be stored: NUL (U+0000).") from exc
    except _UNAVAILABLE as exc:
        raise StoreUnavailable("The database can't be reached right now. Try again shortly.") from exc
    except asyncpg.DataError as exc:
        if isinstance(exc.__cause__, UnicodeEncodeError):
            raise InvalidRequest("The text isn't valid Unicode: it has half of a surrogate pair.") from exc
        raise


_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TransactionRollbackError,
)
"""No connection, no answer in time, a server that is starting, stopping or full, or that broke a deadlock."""
