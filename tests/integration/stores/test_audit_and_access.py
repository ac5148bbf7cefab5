"""The audit log can only grow, and a session's last use is written together."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from triplane.adapters.postgres.accounts import PostgresAccounts
from triplane.adapters.postgres.audit_log import PostgresAuditLog
from triplane.adapters.postgres.ended_access import PostgresEndedAccess
from triplane.adapters.postgres.pool import Database
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
