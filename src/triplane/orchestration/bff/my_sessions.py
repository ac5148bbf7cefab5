"""The browsers in which a user is signed in: list them, sign one out, sign all others out."""

from datetime import datetime
from typing import Literal

import msgspec
from litestar import delete, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from triplane.domain.errors import NotFound
from triplane.domain.ids import is_id
from triplane.orchestration.bff.administrators import actor_of
from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.pages import Deleted, Page, page_of
from triplane.orchestration.bff.request import StrictRequest


class SessionObject(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that is signed in. `last_seen_at` is exact to about a minute; times in Unix seconds."""

    id: str
    object: Literal["session"] = "session"
    created_at: int
    last_seen_at: int | None
    user_agent: str
    address: str
    current: bool


class SessionsEnded(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["sessions.deleted"] = "sessions.deleted"
    deleted: int


@get("/v1/sessions", tags=["accounts"], summary="Where you are signed in", responses=documented(401, 503))
async def list_sessions(request: StrictRequest, deps: Deps) -> Page[SessionObject]:
    who = request.principal
    return page_of(
        [
            SessionObject(
                id=each.id,
                created_at=int(each.created_at.timestamp()),
                last_seen_at=seconds(each.last_seen_at),
                user_agent=each.user_agent,
                address=each.address,
                current=each.id == who.session_id,
            )
            for each in await deps.sessions.store.list_sessions(who)
        ]
    )


@delete(
    "/v1/sessions/{session_id:str}",
    tags=["accounts"],
    summary="Sign one browser out",
    status_code=200,
    responses=documented(401, 403, 404, 503),
)
async def end_session(request: StrictRequest, deps: Deps, session_id: FromPath[str]) -> Deleted:
    """Within a second it has no access, and its open streams end."""
    if not is_id("session", session_id):
        raise NotFound("There is no such session.")
    await deps.sessions.store.end_own_session(request.principal, session_id)
    await deps.audit.record(actor_of(request), "session.ended", session_id)
    return Deleted(id=session_id, object="session.deleted")


@delete(
    "/v1/sessions",
    tags=["accounts"],
    summary="Sign every other browser out",
    status_code=200,
    responses=documented(401, 403, 503),
)
async def end_other_sessions(request: StrictRequest, deps: Deps) -> SessionsEnded:
    who = request.principal
    ended = await deps.sessions.store.end_other_sessions(who)
    if ended:
        await deps.audit.record(actor_of(request), "session.ended", who.user_id, f"{ended} others")
    return SessionsEnded(deleted=ended)


def seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


MY_SESSION_HANDLERS: list[HTTPRouteHandler] = [list_sessions, end_session, end_other_sessions]
