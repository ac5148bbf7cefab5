"""The embedded servers: odd places, crashes, and one owner at a time."""

import asyncio
import os
import shutil
import signal
import stat
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio

from triplane.adapters.embedded.postgres import EmbeddedPostgres
from triplane.adapters.embedded.redis import EmbeddedRedis
from triplane.adapters.embedded.server_folder import (
    DataFolderInUse,
    EmbeddedServer,
    EmbeddedServerError,
    own_folder,
    running,
)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Closed to others, as a home folder is, and with a name that needs quoting."""
    outer = Path(tempfile.mkdtemp())
    yield outer / "odd place & ünï" / "data"
    shutil.rmtree(outer)


async def _spawn(server: EmbeddedServer) -> Process:
    """As a supervisor does it, without the end that it owes."""
    await asyncio.to_thread(server.prepare)
    child = await asyncio.create_subprocess_exec(
        *server.command(), stdout=DEVNULL, stderr=DEVNULL, **server.spawn_options()
    )
    await server.wait_ready()
    return child


async def _store(server: EmbeddedPostgres, text: str) -> list[str]:
    """Append a row and read all."""
    connection = await asyncpg.connect(server.url)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (text text)")
    await connection.execute("INSERT INTO kept VALUES ($1)", text)
    rows = await connection.fetch("SELECT text FROM kept")
    await connection.close()
    return [row["text"] for row in rows]


async def test_postgres_starts_in_a_closed_folder_and_keeps_its_data(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)

    async with running(server):
        assert await _store(server, "first") == ["first"]
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE EXTENSION vector")
        assert await connection.fetchval("SELECT '[1,2]'::vector <-> '[1,3]'::vector") == 1.0
        await connection.close()
    async with running(server):
        assert await _store(server, "second") == ["first", "second"]

    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700


@pytest.mark.parametrize("make", [EmbeddedPostgres, EmbeddedRedis])
async def test_a_long_path_gets_a_short_socket(
    data_dir: Path, make: type[EmbeddedPostgres] | type[EmbeddedRedis]
) -> None:
    server = make(data_dir / ("x" * 120))
    assert server.socket_dir == make(data_dir / ("x" * 120)).socket_dir, "every command must find it"

    async with running(server):
        assert len(os.fsencode(server.socket_dir)) < 90
    server.socket_dir.rmdir()


async def test_a_server_that_its_supervisor_left_behind_is_replaced(data_dir: Path) -> None:
    for make in (EmbeddedPostgres, EmbeddedRedis):
        old = make(data_dir)
        orphan = await _spawn(old)
        old.release()  # what the operating system does when the supervisor is killed

        async with running(make(data_dir)):
            assert await asyncio.wait_for(orphan.wait(), 10) is not None


async def test_postgres_recovers_after_a_kill_and_a_reused_process_number(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    child = await _spawn(server)
    await _store(server, "acknowledged")
    family = psutil.Process(child.pid).children()
    child.send_signal(signal.SIGKILL)
    await child.wait()
    server.release()
    await asyncio.to_thread(psutil.wait_procs, family, 10)
    pid_file = server.folder / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    async with running(server):
        assert await _store(server, "after") == ["acknowledged", "after"]


async def test_redis_keeps_what_it_has_acknowledged_through_a_kill(data_dir: Path) -> None:
    server = EmbeddedRedis(data_dir)
    child = await _spawn(server)
    async with redis.asyncio.Redis.from_url(server.url) as client:
        await client.xadd("log", {"event": "shown"})
    child.send_signal(signal.SIGKILL)
    await child.wait()
    server.release()

    async with running(server), redis.asyncio.Redis.from_url(server.url) as client:
        assert await client.xlen("log") == 1


async def test_a_first_start_that_was_cut_off_is_begun_anew(data_dir: Path) -> None:
    (data_dir / "postgres.new" / "base").mkdir(parents=True)
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18\n")

    async with running(EmbeddedPostgres(data_dir)) as _:
        assert not (data_dir / "postgres.new").exists()


async def test_a_folder_has_one_owner_at_a_time(data_dir: Path) -> None:
    for make in (EmbeddedPostgres, EmbeddedRedis):
        async with running(make(data_dir)):
            with pytest.raises(DataFolderInUse, match="TRIPLANE_DATA_DIR"):
                make(data_dir).prepare()


async def test_another_versions_cluster_is_refused(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.folder.mkdir(parents=True)
    (server.folder / "PG_VERSION").write_text("16\n")

    with pytest.raises(EmbeddedServerError, match="PostgreSQL 16"):
        server.prepare()

    server.release()


def test_a_socket_folder_of_somebody_else_is_refused(data_dir: Path) -> None:
    data_dir.mkdir(parents=True)
    (data_dir / "elsewhere").mkdir()
    (data_dir / "link").symlink_to(data_dir / "elsewhere")

    with pytest.raises(EmbeddedServerError, match="another user"):
        own_folder(data_dir / "link")


async def test_a_server_that_cant_start_says_so_at_once(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, {"shared_buffers": "nonsense"})

    with pytest.raises(EmbeddedServerError, match="postgres ended"):
        async with running(server):
            pass
