"""Real PostgreSQL and Redis for tests, each started once in a run.

`database` gives each test a migrated database of its own, copied from a template in some tens of
milliseconds; `redis_client` gives each test an empty Redis, `redis_pipeline` the way that turns go to it.
"""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
import redis.asyncio

from triplane.adapters.embedded.postgres import EmbeddedPostgres
from triplane.adapters.embedded.redis import EmbeddedRedis
from triplane.adapters.embedded.server_folder import DataFolderInUse, EmbeddedServer, running
from triplane.adapters.postgres.migrations import migrate
from triplane.adapters.postgres.pool import Database, open_database
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.conversation import Principal
from triplane.domain.ids import new_id

_PREFIX = "triplane-test-"

_MEMORY = Path("/dev/shm")
"""A database is copied in 0.01 s there and in 0.3 s on a slow disk: it has 430 files."""
_ROOM_BYTES = 4 * 2**30

_FOR_TESTS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
}
"""A test's data needn't outlive the machine."""


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """A data folder for this run. Not pytest's own, which it closes to the user that PostgreSQL runs as."""
    for parent in (Path(tempfile.gettempdir()), _MEMORY):
        for left_over in parent.glob(f"{_PREFIX}*"):
            sweep(left_over)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_MEMORY if _has_room(_MEMORY) else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _has_room(folder: Path) -> bool:
    """Whether the servers' data fits there beside what else needs it."""
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ROOM_BYTES


def sweep(folder: Path) -> None:
    """End the servers of a run that was killed, and remove its folder; leave one that runs still."""
    servers: list[EmbeddedServer] = [EmbeddedPostgres(folder), EmbeddedRedis(folder)]
    try:
        for server in servers:
            server.prepare()
    except (DataFolderInUse, OSError):
        return
    finally:
        for server in servers:
            server.release()
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server(servers_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(servers_dir, _FOR_TESTS)
    with (servers_dir / "postgres.log").open("ab") as log:
        async with running(server, log):
            yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template_url(postgres_server: EmbeddedPostgres) -> str:
    """The migrated database that every test's own is copied from. Nobody else may connect to it."""
    database = await open_database(postgres_server.url)
    await migrate(database)
    await database.close()
    return postgres_server.url


@pytest_asyncio.fixture(loop_scope="session")
async def postgres_url(postgres_server: EmbeddedPostgres, template_url: str) -> AsyncIterator[str]:
    """A migrated database for one test."""
    async for url in _database(postgres_server, "TEMPLATE triplane"):
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def empty_postgres_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without a schema, for one test."""
    async for url in _database(postgres_server, ""):
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """The stores' way to a migrated database of this test's own."""
    opened = await open_database(postgres_url, size=10)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_url(servers_dir: Path) -> AsyncIterator[str]:
    server = EmbeddedRedis(servers_dir)
    with (servers_dir / "redis.log").open("ab") as log:
        async with running(server, log):
            yield server.url


@pytest_asyncio.fixture(loop_scope="session")
async def redis_client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of a Redis that this test finds empty."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.flushall()
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def redis_pipeline(redis_url: str, redis_client: redis.asyncio.Redis) -> AsyncIterator[RedisPipeline]:
    """What turns use of Redis, over the same empty Redis."""
    pipeline = RedisPipeline(redis_url)
    yield pipeline
    await pipeline.aclose()


async def add_user(database: Database, tenant_id: str | None = None) -> Principal:
    """A new user, of a new tenant unless one is given."""
    who = Principal(tenant_id=tenant_id or new_id("tenant"), user_id=new_id("user"))
    if tenant_id is None:
        await database.execute("INSERT INTO tenants (id, name) VALUES ($1, 'Test')", who.tenant_id)
    await database.execute(
        "INSERT INTO users (tenant_id, id, name) VALUES ($1, $2, 'Test')", who.tenant_id, who.user_id
    )
    return who


@pytest_asyncio.fixture(loop_scope="session")
async def who(database: Database) -> Principal:
    """A user of `database`."""
    return await add_user(database)


async def _database(server: EmbeddedPostgres, options: str) -> AsyncIterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(server.database_url("postgres"))
    try:
        await admin.execute(f"CREATE DATABASE {name} {options}")
        yield server.database_url(name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await asyncio.wait_for(admin.close(), 5.0)
