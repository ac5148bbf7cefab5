"""Shares of conversations, in PostgreSQL. Only hashes of secrets arrive here."""

import msgspec

from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.rows import to_json
from triplane.domain.conversation import Principal
from triplane.domain.errors import NotFound
from triplane.orchestration.sharing import NewShare, Share, SharedConversation, SharedMessage

_messages = msgspec.json.Decoder(list[SharedMessage])


class PostgresShares:
    """`ShareStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, who: Principal, new: NewShare) -> Share:
        row = await self._database.fetchrow(
            _ADD,
            who.tenant_id,
            who.user_id,
            new.conversation_id,
            new.id,
            new.secret_sha256,
            new.title,
            to_json(new.messages),
            len(new.messages),
        )
        if row is None:
            raise NotFound("No such conversation.", param="conversation_id")
        return Share(**row)

    async def list_page(
        self, who: Principal, conversation_id: str | None, after: str | None, limit: int
    ) -> tuple[list[Share], bool]:
        arguments = (who.tenant_id, who.user_id, conversation_id, after, limit + 1)
        rows = await self._database.fetch(_LIST, *arguments)
        return [Share(**row) for row in rows[:limit]], len(rows) > limit

    async def revoke(self, who: Principal, share_id: str) -> None:
        if not await self._database.fetchval(_REVOKE, who.tenant_id, who.user_id, share_id):
            raise NotFound("No such share.", param="id")

    async def read(self, secret_sha256: bytes) -> SharedConversation:
        row = await self._database.fetchrow(_READ, secret_sha256)
        if row is None:
            raise NotFound("This isn't shared, or no longer.")
        return SharedConversation(
            title=row["title"], created_at=row["created_at"], messages=_messages.decode(row["messages"])
        )


_COLUMNS = "s.id, s.conversation_id, s.title, s.created_at, s.message_count AS messages"

_ADD = f"""
INSERT INTO shares AS s (tenant_id, user_id, conversation_id, id, secret_sha256, title, messages,
    message_count)
SELECT c.tenant_id, c.user_id, c.id, $4, $5, $6, $7, $8 FROM conversations c
WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.id = $3 AND c.deleted_at IS NULL
RETURNING {_COLUMNS}"""

# Ids sort by when they were made.
_LIST = f"""
SELECT {_COLUMNS} FROM shares s
JOIN conversations c ON c.tenant_id = s.tenant_id AND c.id = s.conversation_id AND c.deleted_at IS NULL
WHERE s.tenant_id = $1 AND s.user_id = $2 AND ($3::text IS NULL OR s.conversation_id = $3)
  AND ($4::text IS NULL OR s.id < $4)
ORDER BY s.id DESC LIMIT $5"""

_REVOKE = "DELETE FROM shares WHERE tenant_id = $1 AND user_id = $2 AND id = $3 RETURNING true"

_READ = """
SELECT s.title, s.created_at, s.messages FROM shares s
JOIN conversations c ON c.tenant_id = s.tenant_id AND c.id = s.conversation_id AND c.deleted_at IS NULL
WHERE s.secret_sha256 = $1"""
