"""Signing in by the one-time link, who I am, signing out."""

from typing import Literal

import msgspec
from litestar import MediaType, Response, delete, get
from litestar.datastructures import Cookie
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import FromQuery

from triplane.orchestration.accounts.administration_ports import Actor
from triplane.orchestration.accounts.ports import Origin
from triplane.orchestration.accounts.sessions import SESSION_LIFETIME
from triplane.orchestration.accounts.user_settings import UserSettings
from triplane.orchestration.bff.administrators import address_of
from triplane.orchestration.bff.authentication import PUBLIC, SESSION_COOKIE
from triplane.orchestration.bff.deps import AppDeps, Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.request import StrictRequest

_NO_STORE = {"cache-control": "no-store"}
_LINK_IS_SPENT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>This sign-in link no longer works</title>
<h1>This sign-in link no longer works</h1>
<p>A link works once, within 30 minutes. This one was used, has expired, or is not complete.</p>
<p>For a new one, run this where Triplane is installed, and open what it prints:</p>
<pre>triplane sign-in-link</pre>
</html>
"""

_SPENT = ResponseSpec(
    data_container=str,
    media_type=MediaType.HTML,
    description="The link was used, has expired, or is wrong.",
    generate_examples=False,
)


class Me(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["user"] = "user"
    name: str
    is_admin: bool
    plan: str
    settings: UserSettings


class SignedOut(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["session.deleted"] = "session.deleted"
    deleted: Literal[True] = True


@get(
    "/sign-in",
    opt=PUBLIC,
    security=[{}],
    tags=["accounts"],
    summary="Sign in by a one-time link",
    status_code=303,
    media_type=MediaType.HTML,
    responses={403: _SPENT},
)
async def sign_in(request: StrictRequest, deps: Deps, token: FromQuery[str] = "") -> Response[str]:
    """Sets the session cookie and goes to `/`; answers 403 for a link that is used, expired or wrong."""
    origin = Origin(user_agent=request.headers.get("user-agent", ""), address=address_of(request))
    session = await deps.sessions.redeem(token, origin) if token else None
    if session is None:
        return Response(_LINK_IS_SPENT, status_code=403, media_type=MediaType.HTML, headers=_NO_STORE)
    actor = Actor(tenant_id=session.user.tenant_id, user_id=session.user.id, address=origin.address)
    await deps.audit.record(actor, "session.created", session.id)
    cookie = _cookie(deps, session.cookie, int(SESSION_LIFETIME.total_seconds()))
    headers = {"location": "/", "referrer-policy": "no-referrer", **_NO_STORE}
    return Response("", status_code=303, media_type=MediaType.HTML, cookies=[cookie], headers=headers)


@get("/v1/me", tags=["accounts"], summary="Who I am", responses=documented(401))
async def me(request: StrictRequest, deps: Deps) -> Me:
    user = await deps.sessions.store.user(request.principal)
    return Me(
        id=user.id,
        name=user.name,
        is_admin=user.is_admin,
        plan=user.plan or deps.default_plan,
        settings=await deps.settings.get(request.principal),
    )


@delete(
    "/v1/session",
    tags=["accounts"],
    summary="Sign out",
    status_code=200,
    responses=documented(401, 403),
)
async def sign_out(request: StrictRequest, deps: Deps) -> Response[SignedOut]:
    """Ends the session of the cookie, if one came, and takes the cookie back."""
    await deps.sessions.end(request.cookies.get(SESSION_COOKIE, ""))
    return Response(SignedOut(), cookies=[_cookie(deps, "", 0)])


def _cookie(deps: AppDeps, value: str, max_age: int) -> Cookie:
    return Cookie(
        key=SESSION_COOKIE,
        value=value,
        max_age=max_age,
        path="/",
        httponly=True,
        samesite="lax",
        secure=(deps.public_url or "").startswith("https://"),
    )


SESSION_HANDLERS: list[HTTPRouteHandler] = [sign_in, me, sign_out]
