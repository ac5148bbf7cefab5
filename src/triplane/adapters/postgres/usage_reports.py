"""Sums over the bill. The SQL is put together from the constants here and from nothing that anybody sends."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.usage import IS_REQUEST
from triplane.domain.errors import InvalidRequest
from triplane.orchestration.accounts.administration_ports import UsageDimension, UsageRow

MOST_ROWS = 20_000

_EXPRESSIONS: dict[UsageDimension, str] = {
    "day": "(e.created_at AT TIME ZONE 'UTC')::date",
    "model": "e.model",
    "key": "coalesce(e.api_key_id, '')",
    "user": "e.user_id",
    "plan": "coalesce(u.plan, '')",
}


class PostgresUsageReports:
    """`UsageReports` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(
        self, tenant_id: str, user_id: str | None, first: date, last: date, by: Sequence[UsageDimension]
    ) -> list[UsageRow]:
        begin, end = _midnight(first), _midnight(last) + timedelta(days=1)
        rows = await self._database.fetch(
            _sql(by, of_user=user_id is not None), tenant_id, begin, end, user_id
        )
        if len(rows) > MOST_ROWS:
            raise InvalidRequest(
                f"This report has more than {MOST_ROWS:,} rows: ask for fewer days or dimensions.", param="by"
            )
        return [UsageRow(**row) for row in rows]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _sql(by: Sequence[UsageDimension], *, of_user: bool) -> str:
    known = [name for name in _EXPRESSIONS if name in by]
    columns = "".join(f"{_EXPRESSIONS[name]} AS {name!s}, ".replace("AS user", 'AS "user"') for name in known)
    places = ", ".join(str(place) for place in range(1, len(known) + 1))
    return f"""
SELECT {columns}
    count(*) FILTER (WHERE {IS_REQUEST}) AS requests,
    coalesce(sum(e.prompt_tokens), 0)::bigint AS input_tokens,
    coalesce(sum(e.cached_tokens), 0)::bigint AS cached_tokens,
    coalesce(sum(e.completion_tokens), 0)::bigint AS output_tokens,
    coalesce(sum(e.cost), 0)::bigint AS cost
FROM usage_events e
{"LEFT JOIN users u ON u.tenant_id = e.tenant_id AND u.id = e.user_id" if "plan" in known else ""}
WHERE e.tenant_id = $1 AND e.created_at >= $2 AND e.created_at < $3
    AND {"e.user_id = $4" if of_user else "$4::text IS NULL"}
{f"GROUP BY {places} ORDER BY {places}" if known else ""}
LIMIT {MOST_ROWS + 1}"""
