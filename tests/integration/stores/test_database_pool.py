"""The pool: what happens when PostgreSQL goes away, and behind a real PgBouncer."""

import asyncio
import shutil
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from store_examples import held_by, new_turn, result

from servers import add_user
from triplane.adapters.embedded.postgres import EmbeddedPostgres
from triplane.adapters.postgres.accounts import PostgresAccounts
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.migrations import migrate, require_current
from triplane.adapters.postgres.opening import open_current_database
from triplane.adapters.postgres.pool import Database, open_database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.domain.errors import StoreUnavailable

_PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

needs_pgbouncer = pytest.mark.skipif(
    _PGBOUNCER is None, reason="PgBouncer is NOT TESTED: install the package pgbouncer"
)


async def test_a_server_that_isnt_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await open_database(f"postgresql://postgres@/none?host={tmp_path}")


async def test_a_process_that_starts_waits_for_its_database(
    postgres_server: EmbeddedPostgres, template_url: str
) -> None:
    admin = await asyncpg.connect(postgres_server.database_url("postgres"))
    try:
        opening = asyncio.create_task(open_current_database(postgres_server.database_url("late")))
        await asyncio.wait((opening,), timeout=0.1)
        await admin.execute("CREATE DATABASE late TEMPLATE triplane")
        database = await asyncio.wait_for(opening, 20)
        await database.check()
        await database.close()
    finally:
        await admin.execute("DROP DATABASE IF EXISTS late WITH (FORCE)")
        await admin.close()


async def test_a_process_gives_its_database_up_once_patience_is_at_an_end(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await open_current_database(f"postgresql://postgres@/none?host={tmp_path}", patience_s=0)


@pytest.mark.parametrize("code", ["deadlock_detected", "serialization_failure"])
async def test_a_transaction_that_the_server_has_given_up_may_be_tried_again(
    database: Database, code: str
) -> None:
    with pytest.raises(StoreUnavailable):
        await database.execute(f"DO $$ BEGIN RAISE {code}; END $$")


async def test_a_cut_connection_is_unavailable_once_and_then_replaced(postgres_url: str) -> None:
    database = await open_database(postgres_url, size=1)
    with pytest.raises(StoreUnavailable):
        await database.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    await database.check()

    await database.close()


async def test_our_own_faulty_sql_stays_a_bug(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.fetch("SELECT * FROM no_such_table")


@pytest.fixture
async def pooled(postgres_server: EmbeddedPostgres, postgres_url: str) -> AsyncIterator[Database]:
    """A database behind a PgBouncer that shares three server connections in transaction pooling."""
    assert _PGBOUNCER is not None
    folder = Path(tempfile.mkdtemp())
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={postgres_server.socket_dir} user=postgres\n"
        f"[pgbouncer]\nlisten_addr =\nunix_socket_dir = {folder}\nauth_type = any\npool_mode = transaction\n"
        "default_pool_size = 3\nmax_client_conn = 100\nserver_round_robin = 1\n"
    )
    # PgBouncer refuses root, as PostgreSQL does.
    user = postgres_server.spawn_options()["user"]
    if user is not None:
        shutil.chown(folder, user)
    process = await asyncio.create_subprocess_exec(
        _PGBOUNCER, "-q", str(folder / "pgbouncer.ini"), stdout=DEVNULL, stderr=DEVNULL, user=user
    )
    try:
        yield await _open_when_ready(
            f"postgresql://postgres@{urlsplit(postgres_url).path}?host={folder}&port=6432"
        )
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)
        shutil.rmtree(folder)


async def _open_when_ready(url: str) -> Database:
    async with asyncio.timeout(20):
        while True:
            try:
                return await open_database(url, pooled=True, size=10)
            except StoreUnavailable:
                await asyncio.sleep(0.02)


@needs_pgbouncer
async def test_everything_works_behind_pgbouncer_with_more_clients_than_connections(
    pooled: Database,
) -> None:
    await migrate(pooled)
    await require_current(pooled)
    who = await add_user(pooled)
    conversations, turns = PostgresConversations(pooled), PostgresTurns(pooled)
    made = await conversations.create(who, None, {}, [])

    async def one_turn(number: int) -> None:
        opened = await turns.open(who, new_turn(made.id, f"turn {number}"))
        assert await turns.renew(held_by(who, opened), "so far", 2) == "held"
        assert await turns.finish(who, result(who, opened))
        assert (await turns.get(who, opened.turn_id)).status == "complete"

    await asyncio.gather(*(one_turn(number) for number in range(40)))

    rows, _ = await conversations.messages(who, made.id, 0, 200)
    assert [row.seq for row in rows] == list(range(1, 81))
    assert (await PostgresAccounts(pooled).ensure_first_administrator()).is_admin
    await pooled.close()
