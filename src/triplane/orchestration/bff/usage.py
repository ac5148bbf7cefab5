"""What was used, in sums: a user's own, and a tenant's for administrators."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, cast, get_args

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter

from triplane.domain.errors import InvalidRequest
from triplane.domain.money import dollars
from triplane.orchestration.accounts.administration_ports import UsageDimension, UsageReports, UsageRow
from triplane.orchestration.bff.administrators import AdminDoor
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.request import StrictRequest

DEFAULT_DAYS = 30
MOST_DAYS = 366
_OWN: tuple[UsageDimension, ...] = ("day", "model", "key")
_DAY = re.compile(r"(?:19[789]|2\d\d)\d-\d{2}-\d{2}\Z", re.ASCII)


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of what is alike. `requests` are completions, titles and summaries too; `cost` in US dollars."""

    date: str | msgspec.UnsetType = msgspec.UNSET
    model: str | msgspec.UnsetType = msgspec.UNSET
    api_key_id: str | msgspec.UnsetType | None = msgspec.UNSET
    user_id: str | msgspec.UnsetType = msgspec.UNSET
    plan: str | msgspec.UnsetType = msgspec.UNSET
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: float


class UsageObject(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["usage"] = "usage"
    currency: Literal["USD"] = "USD"
    data: list[UsageLine]


def usage_handlers(reports: UsageReports, door: AdminDoor, default_plan: str) -> list[HTTPRouteHandler]:
    @get(
        "/v1/usage",
        operation_id="retrieveUsage",
        summary="What you used, by day, model and key",
        tags=["accounts"],
        responses=documented(400, 401, 503),
    )
    async def retrieve_usage(
        request: StrictRequest,
        first: Annotated[str | None, QueryParameter(name="from")] = None,
        last: Annotated[str | None, QueryParameter(name="to")] = None,
        by: FromQuery[str] = "day,model",
    ) -> UsageObject:
        """Days are UTC's, both ends included; the last 30 by default."""
        who, days, dimensions = request.principal, _days(first, last), _dimensions(by, _OWN)
        rows = await reports.report(who.tenant_id, who.user_id, *days, dimensions)
        return UsageObject(data=[_line(row, dimensions, default_plan) for row in rows])

    @get(
        "/v1/admin/usage",
        operation_id="retrieveTenantUsage",
        summary="What everybody used, by day, model, user and plan",
        tags=["administration"],
        responses=documented(400, 401, 403, 503),
    )
    async def retrieve_tenant_usage(
        request: StrictRequest,
        first: Annotated[str | None, QueryParameter(name="from")] = None,
        last: Annotated[str | None, QueryParameter(name="to")] = None,
        by: FromQuery[str] = "day,model",
    ) -> UsageObject:
        """As `/v1/usage`. A user's plan is the one of today."""
        await door.admit(request)
        dimensions = _dimensions(by, get_args(UsageDimension))
        rows = await reports.report(request.principal.tenant_id, None, *_days(first, last), dimensions)
        return UsageObject(data=[_line(row, dimensions, default_plan) for row in rows])

    return [retrieve_usage, retrieve_tenant_usage]


def _days(first: str | None, last: str | None) -> tuple[date, date]:
    end = datetime.now(UTC).date() if last is None else _day(last, "to")
    begin = end - timedelta(days=DEFAULT_DAYS - 1) if first is None else _day(first, "from")
    if begin > end:
        raise InvalidRequest("from: it is later than `to`.", param="from")
    if (end - begin).days >= MOST_DAYS:
        raise InvalidRequest(f"from: ask for {MOST_DAYS} days at most.", param="from")
    return begin, end


def _day(text: str, param: str) -> date:
    try:
        day = date.fromisoformat(text) if _DAY.match(text) else None
    except ValueError:
        day = None
    if day is None:
        raise InvalidRequest(f"{param}: write a day as YYYY-MM-DD.", param=param)
    return day


def _dimensions(by: str, allowed: Sequence[str]) -> list[UsageDimension]:
    names = [name for name in by.split(",") if name]
    for name in names:
        if name not in allowed:
            raise InvalidRequest(f"by: of {', '.join(allowed)} separated by commas.", param="by")
    return cast("list[UsageDimension]", names)


def _line(row: UsageRow, by: Sequence[UsageDimension], default_plan: str) -> UsageLine:
    return UsageLine(
        date=row.day.isoformat() if row.day else msgspec.UNSET,
        model=msgspec.UNSET if row.model is None else row.model,
        api_key_id=(row.key or None) if "key" in by else msgspec.UNSET,
        user_id=msgspec.UNSET if row.user is None else row.user,
        plan=(row.plan or default_plan) if "plan" in by else msgspec.UNSET,
        requests=row.requests,
        input_tokens=row.input_tokens,
        cached_tokens=row.cached_tokens,
        output_tokens=row.output_tokens,
        cost=dollars(row.cost),
    )
