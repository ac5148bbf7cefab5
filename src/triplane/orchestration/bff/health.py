"""Whether this process lives, whether it can serve, and its metrics."""

import asyncio
from typing import Literal

import msgspec
import structlog
from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler

from triplane.orchestration.bff.authentication import PUBLIC
from triplane.orchestration.bff.deps import Check, Deps
from triplane.orchestration.bff.errors import documented
from triplane.wire.errors import RETRY_AFTER_S, ErrorBody, ErrorDetail

CHECK_TIMEOUT_S = 2.0
_NO_STORE = {"cache-control": "no-store"}

log = structlog.get_logger(__name__)


class Alive(msgspec.Struct, frozen=True):
    status: Literal["alive"] = "alive"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """`checks` are the parts that were asked, all of which can serve."""

    status: Literal["ready"] = "ready"
    checks: list[str]


@get("/healthz", opt=PUBLIC, security=[{}], tags=["health"], summary="This process lives")
async def healthz() -> Response[Alive]:
    return Response(Alive(), headers=_NO_STORE)


@get(
    "/readyz",
    opt=PUBLIC,
    security=[{}],
    tags=["health"],
    summary="This process can serve",
    responses=documented(503),
)
async def readyz(deps: Deps) -> Response[Ready | ErrorBody]:
    """Asks every part behind us, all at once, and names those that can't serve."""
    names = list(deps.checks)
    outcomes = await asyncio.gather(*map(_ask, deps.checks.values()), return_exceptions=True)
    failed = {name: error for name, error in zip(names, outcomes, strict=True) if error is not None}
    if not failed:
        return Response(Ready(checks=names), headers=_NO_STORE)
    log.warning("not ready", failed={name: type(error).__name__ for name, error in failed.items()})
    detail = ErrorDetail(message=f"Can't serve: {', '.join(failed)}.", type="api_error", code="not_ready")
    headers = {"retry-after": str(RETRY_AFTER_S), **_NO_STORE}
    return Response(ErrorBody(error=detail), status_code=503, headers=headers)


async def _ask(check: Check) -> None:
    async with asyncio.timeout(CHECK_TIMEOUT_S):
        await check()


@get(
    "/metrics",
    opt=PUBLIC,
    security=[{}],
    tags=["health"],
    summary="Metrics for Prometheus",
    media_type=MediaType.TEXT,
)
async def metrics(deps: Deps) -> Response[bytes]:
    content = await asyncio.to_thread(deps.metrics)
    return Response(content, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})


HEALTH_HANDLERS: list[HTTPRouteHandler] = [healthz, readyz, metrics]
