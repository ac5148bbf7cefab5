"""The HTTP application: every route, behind what holds for all of them."""

from collections.abc import Sequence

from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ControllerRouterHandler

from triplane.orchestration.bff.api_docs import api_docs_handlers
from triplane.orchestration.bff.api_keys import API_KEY_HANDLERS
from triplane.orchestration.bff.authentication import SESSION_COOKIE, authentication_hook
from triplane.orchestration.bff.conversations import CONVERSATION_HANDLERS
from triplane.orchestration.bff.deps import AppDeps
from triplane.orchestration.bff.edge import Edge, first_segment
from triplane.orchestration.bff.errors import EXCEPTION_HANDLERS
from triplane.orchestration.bff.health import HEALTH_HANDLERS
from triplane.orchestration.bff.models import MODEL_HANDLERS
from triplane.orchestration.bff.my_sessions import MY_SESSION_HANDLERS
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.bff.sessions import SESSION_HANDLERS
from triplane.orchestration.bff.user_settings import USER_SETTINGS_HANDLERS

_DESCRIPTION_ROUTE = "/schema"
"""Litestar insists on a route for its own description; ours is /openapi.json, so this one isn't reachable."""


def create_app(deps: AppDeps, extra_handlers: Sequence[ControllerRouterHandler] = ()) -> Edge:
    """The whole application, an ASGI app. `extra_handlers` are Litestar handlers or routers besides ours.

    A handler gets `request: StrictRequest` with `request.principal` and `request.request_id`, and a body
    checked strictly against the struct of its `data` parameter. `opt=PUBLIC` lets anyone in.
    """
    api = Litestar(
        route_handlers=[
            *MODEL_HANDLERS,
            *CONVERSATION_HANDLERS,
            *SESSION_HANDLERS,
            *MY_SESSION_HANDLERS,
            *USER_SETTINGS_HANDLERS,
            *API_KEY_HANDLERS,
            *HEALTH_HANDLERS,
            *api_docs_handlers(),
            *extra_handlers,
        ],
        dependencies={"deps": Provide(lambda: deps, sync_to_thread=False)},
        before_request=authentication_hook(deps),
        exception_handlers=EXCEPTION_HANDLERS,
        request_class=StrictRequest,
        request_max_body_size=deps.max_body_bytes,
        openapi_config=_openapi(),
        logging_config=None,
        debug=False,
    )
    api_paths = {"v1"} | {first_segment(route.path) for route in api.routes} - {
        first_segment(_DESCRIPTION_ROUTE)
    }
    return Edge(api, deps.web, api_paths, https=(deps.public_url or "").startswith("https://"))


def _openapi() -> OpenAPIConfig:
    bearer = SecurityScheme(type="http", scheme="bearer", description="A key made by `triplane keys create`.")
    key = SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header")
    cookie = SecurityScheme(type="apiKey", name=SESSION_COOKIE, security_scheme_in="cookie")
    return OpenAPIConfig(
        title="Triplane",
        version="1",
        summary="OpenAI's wire, with conversations that are kept.",
        path=_DESCRIPTION_ROUTE,
        render_plugins=[JsonRenderPlugin()],
        components=Components(security_schemes={"bearer": bearer, "key": key, "cookie": cookie}),
        security=[{"bearer": []}, {"key": []}, {"cookie": []}],
        use_handler_docstrings=True,
    )
