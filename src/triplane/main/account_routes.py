"""The routes of account data and administration, over PostgreSQL."""

from collections.abc import Awaitable, Callable, Sequence

from litestar.handlers import HTTPRouteHandler

from triplane.adapters.postgres.administration import PostgresAdministration
from triplane.adapters.postgres.audit_log import PostgresAuditLog
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.usage_reports import PostgresUsageReports
from triplane.adapters.postgres.user_data import PostgresUserData
from triplane.domain.offers import CatalogueView
from triplane.orchestration.bff.admin_users import AdministrationDeps, admin_user_handlers
from triplane.orchestration.bff.admin_views import (
    FleetHistory,
    audit_handlers,
    catalogue_handlers,
    fleet_history_handlers,
)
from triplane.orchestration.bff.administrators import AdminDoor
from triplane.orchestration.bff.my_data import my_data_handlers
from triplane.orchestration.bff.usage import usage_handlers
from triplane.orchestration.turn import TurnDeps, stop_at_once


def account_handlers(
    database: Database,
    turn: TurnDeps,
    catalogue: Callable[[], Awaitable[CatalogueView]],
    history: FleetHistory,
    default_plan: str,
) -> list[HTTPRouteHandler]:
    async def stop(turn_ids: Sequence[str]) -> None:
        await stop_at_once(turn_ids, turn)

    audit, data = PostgresAuditLog(database), PostgresUserData(database)
    door = AdminDoor(audit)
    administration = AdministrationDeps(
        users=PostgresAdministration(database),
        data=data,
        hot_window=turn.hot_window,
        stop=stop,
        door=door,
        catalogue=catalogue,
    )
    return [
        *admin_user_handlers(administration),
        *my_data_handlers(data, turn.hot_window, stop),
        *usage_handlers(PostgresUsageReports(database), door, default_plan),
        *catalogue_handlers(catalogue, door),
        *audit_handlers(audit, door),
        *fleet_history_handlers(history, door),
    ]
