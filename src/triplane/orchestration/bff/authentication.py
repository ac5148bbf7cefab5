"""Before a handler runs and before the body is read: who asks, and is a cookie used by our own page?"""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from litestar import Request
from litestar.datastructures import Headers

from triplane.domain.errors import Forbidden
from triplane.orchestration.accounts.authentication import authenticate
from triplane.orchestration.bff.deps import AppDeps
from triplane.orchestration.bff.scope import set_authenticated

SESSION_COOKIE = "triplane_session"

PUBLIC = {"public": True}
"""A handler's `opt` that lets anyone in."""

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


# Litestar runs this hook ahead of the body, like a guard; but for a guard it copies the handler each time.
def authentication_hook(deps: AppDeps) -> Callable[[Request[Any, Any, Any]], Awaitable[None]]:
    """What runs before every handler, and lets nobody unknown through to one that isn't public."""

    async def before(request: Request[Any, Any, Any]) -> None:
        if request.route_handler.opt.get("public"):
            return
        headers = request.headers
        authorization = headers.get("authorization")
        if authorization is None and (key := headers.get("x-api-key")) is not None:
            authorization = f"Bearer {key}"  # Anthropic's header: the same keys, the same limits
        cookie = None if authorization is not None else request.cookies.get(SESSION_COOKIE)
        authenticated = await authenticate(deps.sessions, deps.api_keys, authorization, cookie)
        if authenticated.by == "session" and request.method not in _SAFE_METHODS:
            refuse_foreign_page(headers)
        who = authenticated.principal
        if who.session_id:
            deps.last_seen.note(who.tenant_id, who.session_id)
        set_authenticated(request.scope, authenticated, deps.streams)

    return before


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
