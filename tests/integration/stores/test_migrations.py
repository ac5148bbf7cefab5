"""The schema's versions, on real databases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from triplane.adapters.postgres import migrations
from triplane.adapters.postgres.accounts import PostgresAccounts
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.migrations import (
    SchemaDamaged,
    SchemaNewer,
    SchemaPending,
    known_migrations,
    migrate,
    require_current,
    status,
)
from triplane.adapters.postgres.pool import Database, open_database
from triplane.adapters.postgres.search import PostgresSearch
from triplane.domain.conversation import Principal
from triplane.domain.ids import new_id
from triplane.orchestration.searching import SearchQuery


@asynccontextmanager
async def database_of_version(version: int, url: str) -> AsyncIterator[Database]:
    """With the migrations up to this one, and closed on leaving."""
    earlier = [each for each in known_migrations() if each.version <= version]
    database = await open_database(url)
    try:
        with pytest.MonkeyPatch.context() as before:
            before.setattr(migrations, "known_migrations", lambda: earlier)
            await migrate(database)
        yield database
    finally:
        await database.close()


async def test_an_empty_database_is_pending_until_it_is_migrated(empty_postgres_url: str) -> None:
    database = await open_database(empty_postgres_url)
    with pytest.raises(SchemaPending, match="triplane db migrate"):
        await require_current(database)

    applied = await migrate(database)

    assert applied == known_migrations()
    await require_current(database)
    assert (await status(database)).version == known_migrations()[-1].version
    await database.close()


async def test_many_starts_at_once_migrate_once(empty_postgres_url: str) -> None:
    starts = [await open_database(empty_postgres_url, size=1) for _ in range(4)]

    applied = await asyncio.gather(*(migrate(database) for database in starts))

    assert sorted(len(each) for each in applied) == [0, 0, 0, len(known_migrations())]
    await require_current(starts[0])
    for database in starts:
        await database.close()


async def test_a_newer_database_is_refused(database: Database) -> None:
    await database.execute("INSERT INTO schema_migrations VALUES (9999, 'from_the_future', 'x')")

    with pytest.raises(SchemaNewer, match="newer triplane"):
        await require_current(database)
    with pytest.raises(SchemaNewer):
        await migrate(database)


async def test_a_half_migrated_database_is_refused(database: Database) -> None:
    last = known_migrations()[-1].version
    await database.execute("DELETE FROM schema_migrations WHERE version = $1", last)

    with pytest.raises(SchemaPending):
        await require_current(database)


async def test_a_migration_with_another_content_is_refused(database: Database) -> None:
    await database.execute("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1")

    with pytest.raises(SchemaDamaged, match="Migration 1"):
        await require_current(database)
    with pytest.raises(SchemaDamaged):
        await migrate(database)


async def test_a_missing_version_is_refused(database: Database) -> None:
    await database.execute("DELETE FROM schema_migrations WHERE version = 1")

    with pytest.raises(SchemaDamaged):
        await require_current(database)


async def test_a_bill_of_version_3_is_kept_line_by_line(empty_postgres_url: str) -> None:
    async with database_of_version(3, empty_postgres_url) as database:
        await database.execute(
            "INSERT INTO usage_events (tenant_id, id, user_id, request_id, model, engine, prompt_tokens,"
            " completion_tokens, cached_tokens)"
            " VALUES ('t', 'usage_1', 'u', 'r', 'fast', 'http://a', 7, 3, 2)"
        )

        assert [each.version for each in await migrate(database)] == [
            each.version for each in known_migrations()[3:]
        ]

        row = await database.fetchrow(
            "SELECT replica, route, attempt, cost, prompt_tokens, completion_tokens, cached_tokens"
            " FROM usage_events WHERE tenant_id = 't' AND id = 'usage_1' AND model = 'fast'"
        )
        assert row is not None
        assert tuple(row.values()) == ("http://a", "", 1, 0, 7, 3, 2)


async def test_conversations_of_version_5_are_found_and_listed_afterwards(empty_postgres_url: str) -> None:
    async with database_of_version(5, empty_postgres_url) as database:
        who = Principal(tenant_id=new_id("tenant"), user_id=new_id("user"))
        conversation = new_id("conv")
        await database.execute("INSERT INTO tenants (id, name) VALUES ($1, 'T')", who.tenant_id)
        await database.execute(
            "INSERT INTO users (tenant_id, id, name) VALUES ($1, $2, 'U')", who.tenant_id, who.user_id
        )
        await database.execute(
            "INSERT INTO conversations (tenant_id, id, user_id, title, last_seq)"
            " VALUES ($1, $2, $3, 'Old otter', 1)",
            who.tenant_id,
            conversation,
            who.user_id,
        )
        await database.execute(
            "INSERT INTO messages (tenant_id, id, conversation_id, seq, role, status, content_json)"
            " VALUES ($1, $2, $3, 1, 'user', 'complete', $4::json)",
            who.tenant_id,
            new_id("msg"),
            conversation,
            '"A heron\\u0000flies"',
        )

        await migrate(database)

        (listed,), _ = await PostgresConversations(database).list_page(who, None, 10)
        assert (listed.id, listed.pinned, listed.archived, listed.project_id) == (
            conversation,
            False,
            False,
            None,
        )
        for word in ("otter", "heron"):
            (found,), _ = await PostgresSearch(database).search(who, SearchQuery(text=word), None, 10)
            assert found.conversation_id == conversation


async def test_the_accounts_and_turns_of_version_5_are_kept(empty_postgres_url: str) -> None:
    async with database_of_version(5, empty_postgres_url) as database:
        for sql in (
            "INSERT INTO tenants (id, name) VALUES ('t', 'T')",
            "INSERT INTO users (tenant_id, id, name, is_admin) VALUES ('t', 'u', 'Ada', true)",
            "INSERT INTO sessions (tenant_id, id, user_id, expires_at)"
            " VALUES ('t', 's', 'u', now() + interval '1 day')",
            "INSERT INTO conversations (tenant_id, id, user_id) VALUES ('t', 'c', 'u')",
            "INSERT INTO turns (tenant_id, id, conversation_id, user_id, message_id, request_id, body_sha256,"
            " model, state) VALUES ('t', 'x', 'c', 'u', 'm', 'r', '', 'fast', 'complete')",
        ):
            await database.execute(sql)

        await migrate(database)

        user = await PostgresAccounts(database).find_session("s")
        assert user is not None
        assert (user.name, user.is_admin, user.plan) == ("Ada", True, None)
        (session,) = await PostgresAccounts(database).list_sessions(Principal(tenant_id="t", user_id="u"))
        assert (session.last_seen_at, session.user_agent) == (None, "")
        assert await database.fetchval("SELECT time_to_first_token_ms IS NULL FROM turns")
