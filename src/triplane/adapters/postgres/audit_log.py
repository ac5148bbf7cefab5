"""The audit log: rows are added, and a trigger refuses any change of them."""

from typing import Protocol

from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import Principal
from triplane.domain.ids import new_id
from triplane.orchestration.accounts.administration_ports import (
    COMMAND_LINE,
    Actor,
    AuditAction,
    AuditEntry,
)


class Executes(Protocol):
    """A database, or a connection within a transaction."""

    async def execute(self, sql: str, /, *arguments: object) -> str: ...


async def add_entry(on: Executes, actor: Actor, action: AuditAction, target: str, detail: str = "") -> None:
    await on.execute(
        _ADD,
        actor.tenant_id,
        new_id("audit"),
        actor.user_id,
        COMMAND_LINE,
        action,
        target,
        detail,
        actor.address,
    )


class PostgresAuditLog:
    """`AuditLog` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, actor: Actor, action: AuditAction, target: str, detail: str = "") -> None:
        await add_entry(self._database, actor, action, target, detail)

    async def page(
        self, who: Principal, after: str | None, limit: int, actor: str | None, action: str | None
    ) -> tuple[list[AuditEntry], bool]:
        rows = await self._database.fetch(_PAGE, who.tenant_id, after, actor, action, limit + 1)
        return [AuditEntry(**row) for row in rows[:limit]], len(rows) > limit


_ADD = """
INSERT INTO audit_log (tenant_id, id, actor_id, actor_name, action, target, detail, address)
SELECT $1, $2, $3, coalesce((SELECT name FROM users WHERE tenant_id = $1 AND id = $3), $4), $5, $6, $7, $8"""

_PAGE = """
SELECT id, at, actor_id, actor_name, action, target, detail, address FROM audit_log
WHERE tenant_id = $1 AND ($2::text IS NULL OR id < $2) AND ($3::text IS NULL OR actor_id = $3)
  AND ($4::text IS NULL OR action = $4)
ORDER BY id DESC LIMIT $5"""
