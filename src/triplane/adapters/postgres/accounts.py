"""Tenants, users and their ways in. Only hashes of secrets arrive here. A disabled user has no way in."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import Principal
from triplane.domain.errors import NotFound
from triplane.domain.ids import new_id
from triplane.orchestration.accounts.ports import UNKNOWN_ORIGIN, ApiKey, Origin, Session, User

_FIRST_TENANT = "Default"
_FIRST_ADMINISTRATOR = "Administrator"
_MOST_USER_AGENT = 300


class PostgresAccounts:
    """`AccountStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure_first_administrator(self) -> User:
        async with self._database.connection() as connection, connection.transaction():
            # Two processes that start at once make one administrator.
            await connection.execute("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
            found = await connection.fetchrow(_FIRST_ADMIN)
            if found is None:
                names = (new_id("tenant"), _FIRST_TENANT, new_id("user"), _FIRST_ADMINISTRATOR)
                found = await connection.fetchrow(_ADD_FIRST_ADMIN, *names)
            return to_user(found)

    async def user(self, who: Principal) -> User:
        row = await self._database.fetchrow(_USER, who.tenant_id, who.user_id)
        if row is None:
            raise NotFound("No such user.")
        return to_user(row)

    async def add_sign_in_link(self, user: User, token_sha256: bytes, expires_at: datetime) -> None:
        await self._database.execute(_ADD_LINK, user.tenant_id, user.id, token_sha256, expires_at)

    async def redeem_sign_in_link(self, token_sha256: bytes) -> User | None:
        row = await self._database.fetchrow(_REDEEM_LINK, token_sha256)
        return to_user(row) if row else None

    async def add_session(
        self, user: User, session_id: str, expires_at: datetime, origin: Origin = UNKNOWN_ORIGIN
    ) -> None:
        named = (origin.user_agent[:_MOST_USER_AGENT], origin.address)
        await self._database.execute(_ADD_SESSION, user.tenant_id, session_id, user.id, expires_at, *named)

    async def find_session(self, session_id: str) -> User | None:
        row = await self._database.fetchrow(_FIND_SESSION, session_id)
        return to_user(row) if row else None

    async def end_session(self, session_id: str) -> None:
        await self._database.execute(_END_SESSION, session_id)

    async def list_sessions(self, who: Principal) -> list[Session]:
        rows = await self._database.fetch(_LIST_SESSIONS, who.tenant_id, who.user_id)
        return [Session(**row) for row in rows]

    async def end_own_session(self, who: Principal, session_id: str) -> None:
        if not await self._database.fetchval(_END_OWN_SESSION, who.tenant_id, who.user_id, session_id):
            raise NotFound("There is no such session.", param="id")

    async def end_other_sessions(self, who: Principal) -> int:
        rows = await self._database.fetch(_END_OTHERS, who.tenant_id, who.user_id, who.session_id)
        return len(rows)

    async def note_seen(self, sessions: Sequence[tuple[str, str]]) -> None:
        tenant_ids, session_ids = [each[0] for each in sessions], [each[1] for each in sessions]
        await self._database.execute(_NOTE_SEEN, tenant_ids, session_ids)

    async def add_api_key(self, who: Principal, key: ApiKey, secret_sha256: bytes) -> None:
        await self._database.execute(
            _ADD_KEY,
            who.tenant_id,
            key.id,
            who.user_id,
            key.name,
            key.prefix,
            secret_sha256,
            key.created_at,
            key.caches_answers,
        )

    async def find_api_key(self, secret_sha256: bytes) -> Principal | None:
        row = await self._database.fetchrow(_FIND_KEY, secret_sha256)
        if row is None:
            return None
        return Principal(
            tenant_id=row["tenant_id"],
            user_id=row["user_id"],
            is_admin=row["is_admin"],
            api_key_id=row["id"],
            caches_answers=row["caches_answers"],
            plan=row["plan"],
        )

    async def list_api_keys(self, who: Principal) -> list[ApiKey]:
        rows = await self._database.fetch(_LIST_KEYS, who.tenant_id, who.user_id)
        return [ApiKey(**row) for row in rows]

    async def revoke_api_key(self, who: Principal, key_id: str) -> None:
        """Revoking twice is harmless."""
        if not await self._database.fetchval(_REVOKE_KEY, who.tenant_id, who.user_id, key_id):
            raise NotFound("No such key.", param="id")


_FIRST_ADMIN = """
SELECT id, tenant_id, name, is_admin, plan FROM users WHERE is_admin AND disabled_at IS NULL
ORDER BY id LIMIT 1"""

_ADD_FIRST_ADMIN = """
WITH tenant AS (INSERT INTO tenants (id, name) VALUES ($1, $2))
INSERT INTO users (tenant_id, id, name, is_admin) VALUES ($1, $3, $4, true)
RETURNING id, tenant_id, name, is_admin, plan"""

_USER = "SELECT id, tenant_id, name, is_admin, plan FROM users WHERE tenant_id = $1 AND id = $2"

_ADD_LINK = "INSERT INTO sign_in_links (tenant_id, user_id, token_sha256, expires_at) VALUES ($1, $2, $3, $4)"

_REDEEM_LINK = """
UPDATE sign_in_links l SET used_at = now()
FROM users u
WHERE l.token_sha256 = $1 AND l.used_at IS NULL AND l.expires_at > now()
  AND u.tenant_id = l.tenant_id AND u.id = l.user_id AND u.disabled_at IS NULL
RETURNING u.id, u.tenant_id, u.name, u.is_admin, u.plan"""

_ADD_SESSION = """
INSERT INTO sessions (tenant_id, id, user_id, expires_at, user_agent, address, last_seen_at)
VALUES ($1, $2, $3, $4, $5, $6, now())"""

_FIND_SESSION = """
SELECT u.id, u.tenant_id, u.name, u.is_admin, u.plan
FROM sessions s JOIN users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id
WHERE s.id = $1 AND s.ended_at IS NULL AND s.expires_at > now() AND u.disabled_at IS NULL"""

_END_SESSION = "UPDATE sessions SET ended_at = now() WHERE id = $1 AND ended_at IS NULL"

_LIST_SESSIONS = """
SELECT id, created_at, last_seen_at, user_agent, address FROM sessions
WHERE tenant_id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > now() ORDER BY id DESC"""

_END_OWN_SESSION = """
UPDATE sessions SET ended_at = coalesce(ended_at, now())
WHERE tenant_id = $1 AND user_id = $2 AND id = $3 RETURNING true"""

_END_OTHERS = """
UPDATE sessions SET ended_at = now()
WHERE tenant_id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > now()
  AND id IS DISTINCT FROM $3::text
RETURNING id"""

_NOTE_SEEN = """
UPDATE sessions s SET last_seen_at = now()
FROM unnest($1::text[], $2::text[]) AS seen (tenant_id, id)
WHERE s.tenant_id = seen.tenant_id AND s.id = seen.id
  AND (s.last_seen_at IS NULL OR s.last_seen_at < now() - interval '1 minute')"""

_ADD_KEY = """
INSERT INTO api_keys (tenant_id, id, user_id, name, prefix, secret_sha256, created_at, caches_answers)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"""

_FIND_KEY = """
WITH found AS (
    SELECT k.tenant_id, k.user_id, k.id, k.caches_answers, k.last_used_at, u.is_admin, u.plan
    FROM api_keys k JOIN users u ON u.tenant_id = k.tenant_id AND u.id = k.user_id
    WHERE k.secret_sha256 = $1 AND k.revoked_at IS NULL AND u.disabled_at IS NULL
), noted AS (
    UPDATE api_keys k SET last_used_at = now() FROM found f
    WHERE k.tenant_id = f.tenant_id AND k.id = f.id
      AND (f.last_used_at IS NULL OR f.last_used_at < now() - interval '1 minute')
)
SELECT tenant_id, user_id, id, caches_answers, is_admin, plan FROM found"""

_LIST_KEYS = """
SELECT id, name, prefix, caches_answers, created_at, last_used_at, revoked_at FROM api_keys
WHERE tenant_id = $1 AND user_id = $2 ORDER BY id"""

_REVOKE_KEY = """
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE tenant_id = $1 AND user_id = $2 AND id = $3 RETURNING true"""


def to_user(row: asyncpg.Record) -> User:
    return User(
        id=row["id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        is_admin=row["is_admin"],
        plan=row["plan"],
    )
