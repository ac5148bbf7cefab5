"""Users, for administrators of their tenant."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, post, route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from triplane.domain.conversation import Principal
from triplane.domain.errors import Conflict, InvalidRequest, NotFound
from triplane.domain.ids import is_id
from triplane.domain.money import dollars
from triplane.domain.offers import CatalogueView
from triplane.orchestration.accounts.administration_ports import (
    ManagedUser,
    UserAdministration,
    UserChange,
    UserDataStore,
)
from triplane.orchestration.accounts.data_deletion import StopTurns, delete_data
from triplane.orchestration.accounts.user_rules import PlanName, UserName, require_plan, require_user_name
from triplane.orchestration.bff.administrators import AdminDoor, actor_of
from triplane.orchestration.bff.deps import AppDeps, Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.my_sessions import seconds
from triplane.orchestration.bff.pages import Deleted, Page, page_of
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.history_ports import HotWindow

_NO_STORE = {"cache-control": "no-store"}


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: UserName
    is_admin: bool = False
    plan: PlanName | None = None


class ChangeUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays; `plan` null is everybody's."""

    name: UserName | msgspec.UnsetType = msgspec.UNSET
    is_admin: bool | msgspec.UnsetType = msgspec.UNSET
    plan: PlanName | msgspec.UnsetType | None = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET


class UserObject(msgspec.Struct, frozen=True, kw_only=True):
    """A user. `plan` null is everybody's; the last two are only in lists. Times in Unix seconds."""

    id: str
    object: Literal["user"] = "user"
    name: str
    is_admin: bool
    plan: str | None
    disabled: bool
    created_at: int
    last_seen_at: int | None
    requests_30d: int | msgspec.UnsetType = msgspec.UNSET
    cost_30d: float | msgspec.UnsetType = msgspec.UNSET


class UserWithLink(UserObject, frozen=True, kw_only=True):
    """`sign_in_url` works once, until `expires_at`, and is shown here only."""

    sign_in_url: str
    expires_at: int


class LinkObject(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["sign_in_link"] = "sign_in_link"
    sign_in_url: str
    expires_at: int


@dataclass(frozen=True, kw_only=True)
class AdministrationDeps:
    users: UserAdministration
    data: UserDataStore
    hot_window: HotWindow
    stop: StopTurns
    door: AdminDoor
    catalogue: Callable[[], Awaitable[CatalogueView]]


def admin_user_handlers(administration: AdministrationDeps) -> list[HTTPRouteHandler]:
    door, users = administration.door, administration.users

    @get(
        "/v1/admin/users",
        operation_id="listUsers",
        summary="The users, newest first",
        tags=["administration"],
        responses=documented(400, 401, 403, 503),
    )
    async def list_users(
        request: StrictRequest,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        after: FromQuery[str | None] = None,
        q: FromQuery[str | None] = None,
    ) -> Page[UserObject]:
        """`q`: only those whose name has this in it."""
        await door.admit(request)
        if after is not None and not is_id("user", after):
            raise InvalidRequest("after: this is not the id of a user.", param="after")
        found, has_more = await users.page(request.principal, after, limit, q or None)
        return page_of([present_user(each) for each in found], has_more=has_more)

    @post(
        "/v1/admin/users",
        operation_id="createUser",
        summary="Make a user, and a link that signs them in",
        tags=["administration"],
        status_code=201,
        responses=documented(400, 401, 403, 413, 415, 502, 503),
    )
    async def create_user(
        request: StrictRequest, deps: Deps, data: JSONBody[NewUser]
    ) -> Response[UserWithLink]:
        await door.admit(request)
        name = require_user_name(data.name)
        await _require_plan(data.plan, administration)
        made = await users.add(actor_of(request), name, data.is_admin, data.plan)
        link = await _link(request, deps, made)
        shown = UserWithLink(
            **_fields(present_user(made)), sign_in_url=link.sign_in_url, expires_at=link.expires_at
        )
        return Response(shown, headers=_NO_STORE)

    @get(
        "/v1/admin/users/{user_id:str}",
        operation_id="retrieveUser",
        summary="One user",
        tags=["administration"],
        responses=documented(401, 403, 404, 503),
    )
    async def retrieve_user(request: StrictRequest, user_id: FromPath[str]) -> UserObject:
        await door.admit(request)
        return present_user(await users.get(request.principal.tenant_id, _require_id(user_id)))

    @route(
        "/v1/admin/users/{user_id:str}",
        http_method=[HttpMethod.PATCH, HttpMethod.POST],
        summary="Change a user: name, plan, administrator or not, disabled or not",
        tags=["administration"],
        status_code=200,
        responses=documented(400, 401, 403, 404, 409, 413, 415, 502, 503),
    )
    async def change_user(
        request: StrictRequest, user_id: FromPath[str], data: JSONBody[ChangeUser]
    ) -> UserObject:
        """Whoever is disabled or demoted has that access no more within a second, streams included; the
        answers of a disabled user are stopped. Refused with 409 for the last administrator."""
        await door.admit(request)
        if data.plan is not msgspec.UNSET:
            await _require_plan(data.plan, administration)
        change = UserChange(
            name=data.name if data.name is msgspec.UNSET else require_user_name(data.name),
            is_admin=data.is_admin,
            plan=data.plan,
            disabled=data.disabled,
        )
        await administration.stop(await users.change(actor_of(request), _require_id(user_id), change))
        return present_user(await users.get(request.principal.tenant_id, user_id))

    @post(
        "/v1/admin/users/{user_id:str}/sign_in_link",
        operation_id="createSignInLink",
        summary="A one-time link that signs a user in",
        tags=["administration"],
        status_code=201,
        responses=documented(400, 401, 403, 404, 503),
    )
    async def create_link(request: StrictRequest, deps: Deps, user_id: FromPath[str]) -> Response[LinkObject]:
        await door.admit(request)
        user = await users.get(request.principal.tenant_id, _require_id(user_id))
        if user.disabled_at:
            raise InvalidRequest("This user is disabled, so a link would lead nowhere.", param="user_id")
        return Response(await _link(request, deps, user), headers=_NO_STORE)

    @delete(
        "/v1/admin/users/{user_id:str}",
        operation_id="deleteUser",
        summary="Delete a user and all that is theirs",
        tags=["administration"],
        status_code=200,
        responses=documented(401, 403, 404, 409, 503),
    )
    async def delete_user(request: StrictRequest, deps: Deps, user_id: FromPath[str]) -> Deleted:
        """What they used stays in the usage. Refused with 409 for the last administrator."""
        await door.admit(request)
        tenant_id, actor = request.principal.tenant_id, actor_of(request)
        stopping = await users.change(actor, _require_id(user_id), UserChange(disabled=True))
        await administration.stop(stopping)
        gone = Principal(tenant_id=tenant_id, user_id=user_id)
        await _delete_data(gone, administration, deps)
        try:
            await users.remove(actor, user_id)
        except Conflict:  # what was under way when they were disabled has written something
            await _delete_data(gone, administration, deps)
            await users.remove(actor, user_id)
        return Deleted(id=user_id, object="user.deleted")

    return [list_users, create_user, retrieve_user, change_user, create_link, delete_user]


async def _delete_data(gone: Principal, administration: AdministrationDeps, deps: AppDeps) -> None:
    await delete_data(
        gone, administration.data, administration.hot_window, administration.stop, deps.announcer
    )


def present_user(managed: ManagedUser) -> UserObject:
    user, cost = managed.user, managed.cost_30d
    return UserObject(
        id=user.id,
        name=user.name,
        is_admin=user.is_admin,
        plan=user.plan,
        disabled=managed.disabled_at is not None,
        created_at=int(managed.created_at.timestamp()),
        last_seen_at=seconds(managed.last_seen_at),
        requests_30d=msgspec.UNSET if managed.requests_30d is None else managed.requests_30d,
        cost_30d=msgspec.UNSET if cost is None else dollars(cost),
    )


def _fields(user: UserObject) -> dict[str, Any]:
    return {name: getattr(user, name) for name in UserObject.__struct_fields__}


async def _link(request: StrictRequest, deps: AppDeps, managed: ManagedUser) -> LinkObject:
    link = await deps.sessions.link_for(managed.user)
    await deps.audit.record(actor_of(request), "sign_in_link.created", managed.user.id)
    base = (deps.public_url or str(request.base_url)).rstrip("/")
    return LinkObject(
        sign_in_url=f"{base}/sign-in?token={link.token}", expires_at=int(link.expires_at.timestamp())
    )


async def _require_plan(plan: str | None, administration: AdministrationDeps) -> None:
    if plan is not None:
        require_plan(plan, [each.id for each in (await administration.catalogue()).plans])


def _require_id(user_id: str) -> str:
    if not is_id("user", user_id):
        raise NotFound("There is no such user.")
    return user_id
