"""Users as administrators change them, each change with its line in the audit log."""

import asyncpg
import msgspec

from triplane.adapters.postgres.accounts import to_user
from triplane.adapters.postgres.audit_log import add_entry
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.usage import IS_REQUEST
from triplane.adapters.postgres.user_data import STOP_TURNS
from triplane.domain.conversation import Principal
from triplane.domain.errors import Conflict, NotFound
from triplane.domain.ids import new_id
from triplane.orchestration.accounts.administration_ports import Actor, AuditAction, ManagedUser, UserChange


class PostgresAdministration:
    """`UserAdministration` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, who: Principal, after: str | None, limit: int, query: str | None
    ) -> tuple[list[ManagedUser], bool]:
        rows = await self._database.fetch(_PAGE, who.tenant_id, after, query, limit + 1)
        return [_managed(row) for row in rows[:limit]], len(rows) > limit

    async def get(self, tenant_id: str, user_id: str) -> ManagedUser:
        row = await self._database.fetchrow(_GET, tenant_id, user_id)
        if row is None:
            raise _unknown()
        return _managed(row)

    async def add(self, actor: Actor, name: str, is_admin: bool, plan: str | None) -> ManagedUser:
        user_id = new_id("user")
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_ADD, actor.tenant_id, user_id, name, is_admin, plan)
            detail = f"name {name}, administrator {_word(is_admin)}, plan {plan or 'default'}"
            await add_entry(connection, actor, "user.created", user_id, detail)
        return await self.get(actor.tenant_id, user_id)

    async def change(self, actor: Actor, user_id: str, change: UserChange) -> list[str]:
        async with self._database.connection() as connection, connection.transaction():
            before = await _locked(connection, actor.tenant_id, user_id)
            if change.is_admin is False or change.disabled is True:
                await _require_not_last(connection, actor.tenant_id, user_id)
            for action, detail in _entries(before, change):
                await add_entry(connection, actor, action, user_id, detail)
            await connection.execute(
                _CHANGE,
                actor.tenant_id,
                user_id,
                _given(change.name),
                _given(change.is_admin),
                change.plan is not msgspec.UNSET,
                _given(change.plan),
                _given(change.disabled),
            )
            if change.disabled is not True:
                return []
            return [row["id"] for row in await connection.fetch(STOP_TURNS, actor.tenant_id, user_id)]

    async def remove(self, actor: Actor, user_id: str) -> None:
        try:
            await self._remove(actor, user_id)
        except asyncpg.ForeignKeyViolationError as exc:
            raise Conflict("Something of this user was written meanwhile. Delete them again.") from exc

    async def _remove(self, actor: Actor, user_id: str) -> None:
        async with self._database.connection() as connection, connection.transaction():
            before = await _locked(connection, actor.tenant_id, user_id)
            await _require_not_last(connection, actor.tenant_id, user_id)
            for table in ("sign_in_links", "sessions", "api_keys"):
                of_user = "WHERE tenant_id = $1 AND user_id = $2"
                await connection.execute(f"DELETE FROM {table} {of_user}", actor.tenant_id, user_id)
            await add_entry(connection, actor, "user.deleted", user_id, f"name {before['name']}")
            await connection.execute(
                "DELETE FROM users WHERE tenant_id = $1 AND id = $2", actor.tenant_id, user_id
            )


async def _locked(connection: asyncpg.Connection, tenant_id: str, user_id: str) -> asyncpg.Record:
    """The user's row. The tenant's row is locked, so that two can't both remove the last but one."""
    await connection.execute("SELECT FROM tenants WHERE id = $1 FOR NO KEY UPDATE", tenant_id)
    row = await connection.fetchrow(_LOCK, tenant_id, user_id)
    if row is None:
        raise _unknown()
    return row


async def _require_not_last(connection: asyncpg.Connection, tenant_id: str, user_id: str) -> None:
    others = await connection.fetchval(_OTHER_ADMINISTRATORS, tenant_id, user_id)
    if not others:
        raise Conflict("This is the last administrator: make somebody else one before.")


def _entries(before: asyncpg.Record, change: UserChange) -> list[tuple[AuditAction, str]]:
    """What the audit log says: only of what changes."""
    entries: list[tuple[AuditAction, str]] = []
    if change.name is not msgspec.UNSET and change.name != before["name"]:
        entries.append(("user.changed", f"name {before['name']} → {change.name}"))
    if change.is_admin is not msgspec.UNSET and change.is_admin != before["is_admin"]:
        entries.append(("user.promoted" if change.is_admin else "user.demoted", ""))
    if change.plan is not msgspec.UNSET and change.plan != before["plan"]:
        entries.append(("user.plan_changed", f"{before['plan'] or 'default'} → {change.plan or 'default'}"))
    if change.disabled is not msgspec.UNSET and change.disabled != (before["disabled_at"] is not None):
        entries.append(("user.disabled" if change.disabled else "user.enabled", ""))
    return entries


def _given(value: object) -> object:
    return None if value is msgspec.UNSET else value


def _word(value: bool) -> str:
    return "yes" if value else "no"


def _unknown() -> NotFound:
    return NotFound("There is no such user.", param="id")


_SEEN = """
    SELECT greatest(
        (SELECT max(last_seen_at) FROM sessions s WHERE s.tenant_id = u.tenant_id AND s.user_id = u.id),
        (SELECT max(last_used_at) FROM api_keys k WHERE k.tenant_id = u.tenant_id AND k.user_id = u.id)
    ) AS last_seen_at"""

_COLUMNS = "u.id, u.tenant_id, u.name, u.is_admin, u.plan, u.disabled_at, u.created_at, seen.last_seen_at"

_GET = f"""
SELECT {_COLUMNS}, NULL::bigint AS requests_30d, NULL::bigint AS cost_30d
FROM users u CROSS JOIN LATERAL ({_SEEN}) seen WHERE u.tenant_id = $1 AND u.id = $2"""

_PAGE = f"""
WITH page AS (
    SELECT * FROM users
    WHERE tenant_id = $1 AND ($2::text IS NULL OR id < $2)
      AND ($3::text IS NULL OR position(lower($3) IN lower(name)) > 0)
    ORDER BY id DESC LIMIT $4
)
SELECT {_COLUMNS}, used.requests AS requests_30d, used.cost AS cost_30d
FROM page u CROSS JOIN LATERAL ({_SEEN}) seen CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE {IS_REQUEST}) AS requests,
        coalesce(sum(cost), 0)::bigint AS cost
    FROM usage_events e
    WHERE e.tenant_id = u.tenant_id AND e.user_id = u.id AND e.created_at > now() - interval '30 days'
) used
ORDER BY u.id DESC"""

_ADD = "INSERT INTO users (tenant_id, id, name, is_admin, plan) VALUES ($1, $2, $3, $4, $5)"

_LOCK = """
SELECT name, is_admin, plan, disabled_at FROM users WHERE tenant_id = $1 AND id = $2 FOR UPDATE"""

_OTHER_ADMINISTRATORS = """
SELECT count(*) FROM users
WHERE tenant_id = $1 AND is_admin AND disabled_at IS NULL AND (
    id <> $2 OR NOT EXISTS (
        SELECT FROM users WHERE tenant_id = $1 AND id = $2 AND is_admin AND disabled_at IS NULL))"""

_CHANGE = """
UPDATE users SET
    name = coalesce($3, name),
    is_admin = coalesce($4, is_admin),
    plan = CASE WHEN $5 THEN $6 ELSE plan END,
    disabled_at = CASE
        WHEN $7::boolean IS NULL THEN disabled_at
        WHEN $7 THEN coalesce(disabled_at, now())
    END
WHERE tenant_id = $1 AND id = $2"""


def _managed(row: asyncpg.Record) -> ManagedUser:
    return ManagedUser(
        user=to_user(row),
        disabled_at=row["disabled_at"],
        created_at=row["created_at"],
        last_seen_at=row["last_seen_at"],
        requests_30d=row["requests_30d"],
        cost_30d=row["cost_30d"],
    )
