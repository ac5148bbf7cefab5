"""`/v1/me/settings`: what a user has set for themselves."""

from litestar import get, route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from triplane.orchestration.accounts.user_settings import SettingsChange, UserSettings
from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.request import StrictRequest


@get("/v1/me/settings", tags=["accounts"], summary="Your settings", responses=documented(401, 503))
async def get_settings(request: StrictRequest, deps: Deps) -> UserSettings:
    return await deps.settings.get(request.principal)


@route(
    "/v1/me/settings",
    http_method=[HttpMethod.PATCH, HttpMethod.POST],
    tags=["accounts"],
    summary="Change your settings; what is left out stays",
    status_code=200,
    responses=documented(400, 401, 403, 413, 415, 503),
)
async def change_settings(request: StrictRequest, deps: Deps, data: JSONBody[SettingsChange]) -> UserSettings:
    return await deps.settings.change(request.principal, data)


USER_SETTINGS_HANDLERS: list[HTTPRouteHandler] = [get_settings, change_settings]
