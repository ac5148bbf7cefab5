"""What administrators look at: plans, models and routes, the fleet's last hours, the audit log."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, Protocol

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter

from triplane.domain.completion import TokenPrice
from triplane.domain.errors import InvalidRequest
from triplane.domain.fleet import FleetPoint
from triplane.domain.ids import is_id
from triplane.domain.limits import Limits
from triplane.domain.offers import CatalogueView, ModelView, PlanView, RouteOffer
from triplane.orchestration.accounts.administration_ports import AuditEntry, AuditLog
from triplane.orchestration.bff.administrators import AdminDoor
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.pages import Page, page_of
from triplane.orchestration.bff.request import StrictRequest


class FleetHistory(Protocol):
    async def points(self, minutes: int, at: float) -> dict[str, list[FleetPoint]]:
        """Of the minutes before `at` (Unix seconds), by route, oldest first. Raises StoreUnavailable."""
        ...


class AuditObject(msgspec.Struct, frozen=True, kw_only=True):
    """`actor_id` null is the command line. `at` in Unix seconds."""

    id: str
    object: Literal["audit_entry"] = "audit_entry"
    at: int
    actor_id: str | None
    actor_name: str
    action: str
    target: str
    detail: str
    address: str


class CatalogueModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue with its routes."""

    id: str
    object: Literal["catalogue_model"] = "catalogue_model"
    name: str
    description: str | None
    context_length: int
    price: TokenPrice | None
    abilities: list[str]
    limits: Limits | None
    routes: list[RouteOffer]


class RouteHistory(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    points: list[FleetPoint]


class FleetHistoryObject(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["fleet.history"] = "fleet.history"
    minutes: int
    routes: list[RouteHistory]


def catalogue_handlers(
    catalogue: Callable[[], Awaitable[CatalogueView]], door: AdminDoor
) -> list[HTTPRouteHandler]:
    @get(
        "/v1/admin/plans",
        operation_id="listPlans",
        summary="The plans of the catalogue",
        tags=["administration"],
        responses=documented(401, 403, 502, 503),
    )
    async def list_plans(request: StrictRequest) -> Page[PlanView]:
        await door.admit(request)
        return page_of((await catalogue()).plans)

    @get(
        "/v1/admin/models",
        operation_id="listCatalogueModels",
        summary="The models of the catalogue with their routes",
        tags=["administration"],
        responses=documented(401, 403, 502, 503),
    )
    async def list_catalogue_models(request: StrictRequest) -> Page[CatalogueModel]:
        await door.admit(request)
        return page_of([_present_model(each) for each in (await catalogue()).models])

    return [list_plans, list_catalogue_models]


def audit_handlers(audit: AuditLog, door: AdminDoor) -> list[HTTPRouteHandler]:
    @get(
        "/v1/admin/audit_log",
        operation_id="listAuditLog",
        summary="Who did what, newest first",
        tags=["administration"],
        responses=documented(400, 401, 403, 503),
    )
    async def list_audit_log(
        request: StrictRequest,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
        after: FromQuery[str | None] = None,
        actor: FromQuery[str | None] = None,
        action: FromQuery[str | None] = None,
    ) -> Page[AuditObject]:
        await door.admit(request)
        if after is not None and not is_id("audit", after):
            raise InvalidRequest("after: this is not the id of an entry.", param="after")
        found, has_more = await audit.page(request.principal, after, limit, actor, action)
        return page_of([_present_entry(each) for each in found], has_more=has_more)

    return [list_audit_log]


def fleet_history_handlers(history: FleetHistory, door: AdminDoor) -> list[HTTPRouteHandler]:
    @get(
        "/v1/admin/fleet/history",
        operation_id="retrieveFleetHistory",
        summary="The routes in the last hours, a point every ten seconds",
        tags=["administration"],
        responses=documented(400, 401, 403, 503),
    )
    async def retrieve_fleet_history(
        request: StrictRequest, minutes: Annotated[int, QueryParameter(ge=1, le=180)] = 60
    ) -> FleetHistoryObject:
        await door.admit(request)
        found = await history.points(minutes, time.time())
        routes = [RouteHistory(name=name, points=points) for name, points in sorted(found.items())]
        return FleetHistoryObject(minutes=minutes, routes=routes)

    return [retrieve_fleet_history]


def _present_model(model: ModelView) -> CatalogueModel:
    return CatalogueModel(
        id=model.id,
        name=model.offer.name,
        description=model.offer.description,
        context_length=model.context_length,
        price=model.offer.price,
        abilities=list(model.offer.abilities),
        limits=model.limits,
        routes=model.routes,
    )


def _present_entry(entry: AuditEntry) -> AuditObject:
    return AuditObject(
        id=entry.id,
        at=int(entry.at.timestamp()),
        actor_id=entry.actor_id,
        actor_name=entry.actor_name,
        action=entry.action,
        target=entry.target,
        detail=entry.detail,
        address=entry.address,
    )
