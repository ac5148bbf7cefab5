"""The live view of the engines, for administrators."""

import time
from collections.abc import Awaitable, Callable, Sequence

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from triplane.domain.errors import Forbidden
from triplane.domain.fleet import FleetReport, RouteView
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.request import StrictRequest


def fleet_handlers(
    process: str, fleet: Callable[[], Awaitable[Sequence[RouteView]]]
) -> list[HTTPRouteHandler]:
    """`process` names the one that answers."""

    @get(
        "/v1/admin/fleet",
        operation_id="retrieveFleet",
        summary="The routes and replicas as they are now",
        tags=["administration"],
        responses=documented(401, 403, 503),
    )
    async def retrieve_fleet(request: StrictRequest) -> Response[FleetReport]:
        """Slots, queues, calls and the last minute are the share of the process that answers."""
        if not request.principal.is_admin:
            raise Forbidden("Only administrators may see the engines.")
        report = FleetReport(process=process, at=round(time.time(), 3), routes=list(await fleet()))
        return Response(report, headers={"cache-control": "no-store"})

    return [retrieve_fleet]
