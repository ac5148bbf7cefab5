"""Backups of a real PostgreSQL, put into another database."""

import asyncio
from pathlib import Path

import pytest
from store_examples import new_turn, result

from triplane.adapters.postgres.backup import BackupError, backup, restore
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.migrations import migrate, require_current
from triplane.adapters.postgres.pool import Database, open_database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.domain.conversation import Principal


async def _conversation(database: Database, who: Principal) -> str:
    made = await PostgresConversations(database).create(who, "Kept", {}, [])
    turns = PostgresTurns(database)
    await turns.finish(who, result(who, await turns.open(who, new_turn(made.id, "Hello\0"))))
    return made.id


async def test_a_restored_backup_serves_as_before(
    database: Database, postgres_url: str, empty_postgres_url: str, who: Principal, tmp_path: Path
) -> None:
    conversation_id = await _conversation(database, who)
    file = tmp_path / "triplane.backup"

    await asyncio.to_thread(backup, postgres_url, file)
    await asyncio.to_thread(restore, empty_postgres_url, file)

    restored = await open_database(empty_postgres_url)
    await require_current(restored)
    before = await PostgresConversations(database).messages(who, conversation_id, 0, 10)
    assert await PostgresConversations(restored).messages(who, conversation_id, 0, 10) == before
    again = await PostgresTurns(restored).open(who, new_turn(conversation_id, "And then?"))
    assert again.draft_seq == 4
    assert file.stat().st_mode & 0o077 == 0
    await restored.close()


async def test_a_database_with_tables_is_replaced_only_on_demand(
    database: Database, postgres_url: str, empty_postgres_url: str, who: Principal, tmp_path: Path
) -> None:
    conversation_id = await _conversation(database, who)
    file = tmp_path / "triplane.backup"
    await asyncio.to_thread(backup, postgres_url, file)
    other = await open_database(empty_postgres_url)
    await migrate(other)

    with pytest.raises(BackupError, match="isn't empty"):
        await asyncio.to_thread(restore, empty_postgres_url, file)
    await asyncio.to_thread(restore, empty_postgres_url, file, replace=True)

    assert (await PostgresConversations(other).get(who, conversation_id)).title == "Kept"
    await other.close()


async def test_a_backup_overwrites_nothing(postgres_url: str, tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("precious")

    with pytest.raises(BackupError, match="exists already"):
        await asyncio.to_thread(backup, postgres_url, file)

    assert file.read_text() == "precious"


def test_a_failed_backup_leaves_no_file_and_no_password_in_its_message(tmp_path: Path) -> None:
    with pytest.raises(BackupError) as caught:
        backup("postgresql://me:hunter2@127.0.0.1:1/none", tmp_path / "b")

    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_what_isnt_a_backup_is_refused(empty_postgres_url: str, tmp_path: Path) -> None:
    file = tmp_path / "nonsense"
    file.write_text("nonsense")

    with pytest.raises(BackupError):
        await asyncio.to_thread(restore, empty_postgres_url, file)
    with pytest.raises(BackupError, match="no file"):
        await asyncio.to_thread(restore, empty_postgres_url, tmp_path / "missing")
