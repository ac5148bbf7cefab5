"""API keys: list, make, revoke."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from triplane.domain.errors import NotFound
from triplane.domain.ids import is_id
from triplane.orchestration.accounts.ports import ApiKey
from triplane.orchestration.bff.administrators import actor_of
from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.pages import Deleted, Page, page_of
from triplane.orchestration.bff.request import StrictRequest


class NewApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """With `caches_answers` a deterministic request may be answered from the response cache."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    caches_answers: bool = False


class ApiKeyObject(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it may be shown again. Times in Unix seconds."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    prefix: str
    caches_answers: bool
    created_at: int
    last_used_at: int | None
    revoked_at: int | None


class ApiKeyWithSecret(ApiKeyObject, frozen=True, kw_only=True):
    """`key` is the secret; it is shown here and never again."""

    key: str


@get("/v1/api_keys", tags=["accounts"], summary="List API keys", responses=documented(401))
async def list_api_keys(request: StrictRequest, deps: Deps) -> Page[ApiKeyObject]:
    return page_of([_present(key) for key in await deps.api_keys.list(request.principal)])


@post(
    "/v1/api_keys",
    tags=["accounts"],
    summary="Make an API key",
    status_code=201,
    responses=documented(400, 401, 403, 413, 415),
)
async def create_api_key(
    request: StrictRequest, deps: Deps, data: JSONBody[NewApiKey]
) -> Response[ApiKeyWithSecret]:
    key, secret = await deps.api_keys.create(request.principal, data.name, caches_answers=data.caches_answers)
    await deps.audit.record(actor_of(request), "api_key.created", key.id, key.name)
    shown = ApiKeyWithSecret(**msgspec.structs.asdict(_present(key)), key=secret)
    return Response(shown, headers={"cache-control": "no-store"})


@delete(
    "/v1/api_keys/{key_id:str}",
    tags=["accounts"],
    summary="Revoke an API key",
    status_code=200,
    responses=documented(401, 403, 404),
)
async def revoke_api_key(request: StrictRequest, deps: Deps, key_id: FromPath[str]) -> Deleted:
    if not is_id("key", key_id):
        raise NotFound("There is no such API key.")
    await deps.api_keys.revoke(request.principal, key_id)
    await deps.audit.record(actor_of(request), "api_key.revoked", key_id)
    return Deleted(id=key_id, object="api_key.deleted")


def _present(key: ApiKey) -> ApiKeyObject:
    return ApiKeyObject(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        caches_answers=key.caches_answers,
        created_at=int(key.created_at.timestamp()),
        last_used_at=_seconds(key.last_used_at),
        revoked_at=_seconds(key.revoked_at),
    )


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


API_KEY_HANDLERS: list[HTTPRouteHandler] = [list_api_keys, create_api_key, revoke_api_key]
