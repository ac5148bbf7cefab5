"""The audit log can only grow; a session's last use is written together; version 5's data is kept."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from triplane.adapters.postgres import migrations
from triplane.adapters.postgres.accounts import PostgresAccounts
from triplane.adapters.postgres.audit_log import PostgresAuditLog
from triplane.adapters.postgres.ended_access import PostgresEndedAccess
from triplane.adapters.postgres.migrations import known_migrations, migrate
from triplane.adapters.postgres.pool import Database, open_database
from triplane.domain.conversation import Principal
from triplane.domain.ids import new_id
from triplane.orchestration.accounts.administration_ports import Actor
from triplane.orchestration.accounts.last_seen import LastSeen


async def test_the_audit_log_refuses_every_change(database: Database, who: Principal) -> None:
    await PostgresAuditLog(database).record(
        Actor(tenant_id=who.tenant_id, user_id=who.user_id), "user.changed", "user_x"
    )

    for change in ("UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await database.execute(change)


async def test_access_that_ends_is_told_whoever_ends_it(database: Database, who: Principal) -> None:
    ended = PostgresEndedAccess(database)
    assert await ended.within(3) == set()

    await database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", who.user_id)

    assert await ended.within(3) == {(who.tenant_id, who.user_id)}


async def test_a_sessions_last_use_is_written_at_most_once_a_minute(database: Database) -> None:
    accounts, clock = PostgresAccounts(database), [0.0]
    user = await accounts.ensure_first_administrator()
    session_id = new_id("session")
    await accounts.add_session(user, session_id, datetime.now(UTC) + timedelta(days=1))
    await database.execute("UPDATE sessions SET last_seen_at = NULL")
    seen = LastSeen(lambda: clock[0])

    seen.note("tenant_other", session_id)
    await seen.write(accounts)
    elsewhere = await database.fetchval("SELECT last_seen_at FROM sessions")
    seen.note(user.tenant_id, session_id)
    await seen.write(accounts)
    first = await database.fetchval("SELECT last_seen_at FROM sessions")
    await database.execute("UPDATE sessions SET last_seen_at = NULL")
    clock[0] = 59.0
    seen.note(user.tenant_id, session_id)
    await seen.write(accounts)
    too_early = await database.fetchval("SELECT last_seen_at FROM sessions")
    clock[0] = 61.0
    seen.note(user.tenant_id, session_id)
    await seen.write(accounts)

    assert elsewhere is None
    assert first is not None
    assert too_early is None
    assert await database.fetchval("SELECT last_seen_at FROM sessions") is not None


async def test_the_accounts_and_turns_of_version_5_are_kept(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(migrations, "known_migrations", lambda: known_migrations()[:5])
        database = await open_database(empty_postgres_url)
        await migrate(database)
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
    await database.close()
