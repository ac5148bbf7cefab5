"""Searching titles and messages by PostgreSQL's full text index; see `0007_history.sql` for what it holds."""

from datetime import datetime
from time import monotonic

import asyncpg
import structlog

from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import Principal
from triplane.domain.errors import StoreUnavailable
from triplane.orchestration.searching import SEARCHED_CHARACTERS, Found, SearchCursor, SearchQuery


class PostgresSearch:
    """`SearchStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(
        self, who: Principal, query: SearchQuery, after: SearchCursor | None, limit: int
    ) -> tuple[list[Found], datetime]:
        at = after.at if after else await self._caught_up(who.tenant_id, who.user_id)
        rows = await self._database.fetch(
            _SEARCH,
            who.tenant_id,
            who.user_id,
            query.text,
            query.include_archived,
            query.project_id,
            at,
            after.by_title if after else None,
            after.score if after else None,
            after.conversation_id if after else None,
            limit,
            SEARCHED_CHARACTERS,
        )
        return [_found(row) for row in rows], at

    async def _caught_up(self, tenant_id: str, user_id: str) -> datetime:
        """Index what isn't yet, as far as there is time for it; the moment when that is done."""
        await self._index(tenant_id, user_id, _SEARCH_WAITS_S)
        now: datetime = await self._database.fetchval("SELECT now()")
        return now

    async def index_some(self, limit: int) -> int:
        """`SearchIndex`. One user's trouble is not another's."""
        users = await self._database.fetch(_UNSEARCHED, limit)
        for user in users:
            try:
                await self._index(user["tenant_id"], user["user_id"], _WORKER_TAKES_S)
            except StoreUnavailable as error:
                _log.warning("messages not indexed", user_id=user["user_id"], reason=error.code)
        return len(users)

    async def _index(self, tenant_id: str, user_id: str, within_s: float) -> None:
        until = monotonic() + within_s
        while await self._database.fetchval(_INDEX, tenant_id, user_id) and monotonic() < until:
            pass


_log = structlog.get_logger(__name__)

_SEARCH_WAITS_S = 2.0
"""A search behind a large import finds what is indexed by then."""

_WORKER_TAKES_S = 30.0
"""For one user, until the others' turn."""

_INDEX = "SELECT index_messages($1, $2)"

_UNSEARCHED = """
SELECT DISTINCT tenant_id, user_id FROM conversations
WHERE deleted_at IS NULL AND NOT temporary AND (searched_at IS NULL OR searched_at < updated_at) LIMIT $1"""

# The owner is a word of each entry, so that the index alone finds one person's. A month halves what a message
# counts. Entries are bounded: whoever looks for a word that stands everywhere is shown some of it.
_SEARCH = """
WITH query AS MATERIALIZED (
    SELECT (quote_literal($2::text) || '')::tsquery && search_query($3) AS words
), entry AS MATERIALIZED (
    SELECT e.source_id, e.conversation_id, ts_rank(e.words, query.words) AS rank
    FROM query, search_entries e
    WHERE e.words @@ query.words AND e.tenant_id = $1 AND e.user_id = $2
    LIMIT 20000
), best AS (
    SELECT conversation_id, bool_or(source_id = conversation_id) AS by_title, max(rank)::float8 AS rank,
        (array_agg(source_id ORDER BY rank DESC, source_id DESC)
            FILTER (WHERE source_id <> conversation_id))[1] AS message_id
    FROM entry GROUP BY conversation_id
), scored AS (
    SELECT c.tenant_id, c.id, c.title, c.updated_at, c.archived, best.by_title, best.message_id,
        best.rank / (
            1 + greatest(0, extract(epoch FROM $6::timestamptz - c.updated_at)::float8) / 2592000
        ) AS score
    FROM best JOIN conversations c ON c.tenant_id = $1 AND c.id = best.conversation_id
    WHERE c.user_id = $2 AND c.deleted_at IS NULL AND NOT c.temporary AND ($4 OR NOT c.archived)
      AND ($5::text IS NULL OR c.project_id IS NOT DISTINCT FROM nullif($5, 'none'))
), page AS (
    SELECT * FROM scored
    WHERE $7::boolean IS NULL OR (by_title, score, id) < ($7, $8::float8, $9::text)
    ORDER BY by_title DESC, score DESC, id DESC LIMIT $10
)
SELECT page.*, m.seq, m.role, left(message_text(m.content_json), $11) AS text
FROM page LEFT JOIN messages m ON m.tenant_id = page.tenant_id AND m.id = page.message_id
ORDER BY by_title DESC, score DESC, id DESC"""


def _found(row: asyncpg.Record) -> Found:
    return Found(
        conversation_id=row["id"],
        title=row["title"],
        updated_at=row["updated_at"],
        archived=row["archived"],
        by_title=row["by_title"],
        score=row["score"],
        message_id=row["message_id"],
        seq=row["seq"],
        role=row["role"],
        text=row["text"] or "",
    )
