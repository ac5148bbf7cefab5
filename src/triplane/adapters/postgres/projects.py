"""Projects, in PostgreSQL."""

import asyncpg

from triplane.adapters.postgres.conversations import no_project
from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import Principal
from triplane.domain.ids import new_id
from triplane.orchestration.projects import Project


class PostgresProjects:
    """`ProjectStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, who: Principal, name: str, instructions: str) -> Project:
        arguments = (who.tenant_id, who.user_id, new_id("proj"), name, instructions)
        return _found(await self._database.fetchrow(_CREATE, *arguments))

    async def get(self, who: Principal, project_id: str) -> Project:
        return _found(await self._database.fetchrow(_GET, who.tenant_id, who.user_id, project_id))

    async def list_page(self, who: Principal, after: str | None, limit: int) -> tuple[list[Project], bool]:
        rows = await self._database.fetch(_LIST, who.tenant_id, who.user_id, after, limit + 1)
        return [_found(row) for row in rows[:limit]], len(rows) > limit

    async def update(
        self, who: Principal, project_id: str, name: str | None, instructions: str | None
    ) -> Project:
        arguments = (who.tenant_id, who.user_id, project_id, name, instructions)
        return _found(await self._database.fetchrow(_UPDATE, *arguments))

    async def delete(self, who: Principal, project_id: str) -> None:
        if not await self._database.fetchval(_DELETE, who.tenant_id, who.user_id, project_id):
            raise no_project()


_COLUMNS = """p.id, p.name, p.instructions, p.created_at, p.updated_at, (
    SELECT count(*) FROM conversations c
    WHERE c.tenant_id = p.tenant_id AND c.project_id = p.id AND c.deleted_at IS NULL AND NOT c.temporary
) AS conversations"""

_CREATE = f"""
INSERT INTO projects AS p (tenant_id, user_id, id, name, instructions) VALUES ($1, $2, $3, $4, $5)
RETURNING {_COLUMNS}"""

_GET = f"SELECT {_COLUMNS} FROM projects p WHERE p.tenant_id = $1 AND p.user_id = $2 AND p.id = $3"

# Ids sort by when they were made.
_LIST = f"""
SELECT {_COLUMNS} FROM projects p
WHERE p.tenant_id = $1 AND p.user_id = $2 AND ($3::text IS NULL OR p.id < $3)
ORDER BY p.id DESC LIMIT $4"""

_UPDATE = f"""
UPDATE projects AS p SET
    name = coalesce($4, p.name), instructions = coalesce($5, p.instructions), updated_at = now()
WHERE p.tenant_id = $1 AND p.user_id = $2 AND p.id = $3 RETURNING {_COLUMNS}"""

_DELETE = """
WITH gone AS (
    DELETE FROM projects WHERE tenant_id = $1 AND user_id = $2 AND id = $3 RETURNING id
), left_alone AS (
    UPDATE conversations c SET project_id = NULL FROM gone WHERE c.tenant_id = $1 AND c.project_id = gone.id
)
SELECT true FROM gone"""


def _found(row: asyncpg.Record | None) -> Project:
    if row is None:
        raise no_project()
    return Project(**row)
