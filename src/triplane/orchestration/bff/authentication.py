"""Before a handler runs and before the body is read: who asks, and is a cookie used by our own page?"""

from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from triplane.domain.errors import Forbidden
from triplane.orchestration.accounts.api_keys import ApiKeys
from triplane.orchestration.accounts.authentication import authenticate
from triplane.orchestration.accounts.sessions import Sessions
from triplane.orchestration.bff.scope import set_authenticated

SESSION_COOKIE = "triplane_session"

PUBLIC = {"public": True}
"""A handler's `opt` that lets anyone in."""

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def authentication_guard(sessions: Sessions, api_keys: ApiKeys) -> Guard:
    """The guard of every handler that isn't public."""

    async def guard(connection: ASGIConnection, handler: BaseRouteHandler) -> None:  # type: ignore[type-arg]
        if handler.opt.get("public"):
            return
        headers = connection.headers
        authorization = headers.get("authorization")
        cookie = None if authorization is not None else connection.cookies.get(SESSION_COOKIE)
        authenticated = await authenticate(sessions, api_keys, authorization, cookie)
        if authenticated.by == "session" and connection.scope.get("method") not in _SAFE_METHODS:
            refuse_foreign_page(headers)
        set_authenticated(connection.scope, authenticated)

    return guard


def refuse_foreign_page(headers: Headers) -> None:
    """A browser sends the cookie whoever wrote the page; raises Forbidden unless the page is ours.

    Every browser of today sends Sec-Fetch-Site over HTTPS and to localhost; over plain HTTP it is missing
    and Origin must do.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        allowed = site in ("same-origin", "none")
    else:
        allowed = _host_of(headers.get("origin", "")) == headers.get("host", "").lower() != ""
    if not allowed:
        raise Forbidden("A signed-in browser may change things only from this site's own page.")


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None
