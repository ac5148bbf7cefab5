"""Sharing a conversation, and reading what was shared: the one route here that anybody may call."""

from time import monotonic
from typing import Annotated, Literal

import msgspec
from litestar import Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter

from triplane.domain.errors import InvalidRequest, NotFound, RateLimited
from triplane.domain.ids import is_id
from triplane.domain.secrets import sha256_of
from triplane.orchestration.bff.administrators import address_of
from triplane.orchestration.bff.authentication import PUBLIC
from triplane.orchestration.bff.conversations import known_conversation
from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.pages import Deleted, Page, page_of
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.sharing import Share, SharedMessage, ShareStore, share_conversation

READS_A_SECOND = 20
"""How many shares a process reads for one address that it doesn't know."""

_MOST_ADDRESSES = 1000

_PRIVATE = {
    "cache-control": "no-store",
    "x-robots-tag": "noindex, nofollow",
    "referrer-policy": "no-referrer",
}


class ShareObject(msgspec.Struct, frozen=True, kw_only=True):
    """`messages` is their number. `url` is in the answer that makes the share, and never again."""

    id: str
    object: Literal["share"] = "share"
    conversation_id: str
    title: str | None
    created_at: int
    messages: int
    url: str | msgspec.UnsetType = msgspec.UNSET


class SharedObject(msgspec.Struct, frozen=True, kw_only=True):
    """Times in Unix seconds."""

    object: Literal["shared_conversation"] = "shared_conversation"
    title: str | None
    created_at: int
    messages: list[SharedMessage]


def share_handlers(shares: ShareStore) -> list[HTTPRouteHandler]:
    return [*_owned(shares), *_public(shares)]


def _owned(shares: ShareStore) -> list[HTTPRouteHandler]:
    @post(
        "/v1/conversations/{conversation_id:str}/shares",
        operation_id="shareConversation",
        tags=["shares"],
        summary="Share a conversation as it stands",
        status_code=200,
        responses=documented(400, 401, 403, 404, 503),
    )
    async def share(request: StrictRequest, deps: Deps, conversation_id: FromPath[str]) -> ShareObject:
        who = request.principal
        made, secret = await share_conversation(
            who, known_conversation(conversation_id), deps.conversations, shares
        )
        site = deps.public_url or str(request.base_url)
        return _present(made, f"{site.rstrip('/')}/share/{secret}")

    @get(
        "/v1/shares",
        operation_id="listShares",
        tags=["shares"],
        summary="What you have shared, newest first",
        responses=documented(400, 401, 503),
    )
    async def list_shares(
        request: StrictRequest,
        conversation_id: FromQuery[str | None] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        after: FromQuery[str | None] = None,
    ) -> Page[ShareObject]:
        if conversation_id is not None and not is_id("conv", conversation_id):
            raise InvalidRequest("This is not the id of a conversation.", param="conversation_id")
        if after is not None and not is_id("share", after):
            raise InvalidRequest("after: this is not the id of a share.", param="after")
        found, has_more = await shares.list_page(request.principal, conversation_id, after, limit)
        return page_of([_present(each) for each in found], has_more=has_more)

    @delete(
        "/v1/shares/{share_id:str}",
        operation_id="revokeShare",
        tags=["shares"],
        summary="Stop sharing",
        status_code=200,
        responses=documented(401, 403, 404, 503),
    )
    async def revoke(request: StrictRequest, share_id: FromPath[str]) -> Deleted:
        if not is_id("share", share_id):
            raise NotFound("There is no such share.")
        await shares.revoke(request.principal, share_id)
        return Deleted(id=share_id, object="share.deleted")

    return [share, list_shares, revoke]


def _public(shares: ShareStore) -> list[HTTPRouteHandler]:
    pace = _Pace(READS_A_SECOND)

    @get(
        "/v1/shared/{secret:str}",
        opt=PUBLIC,
        security=[{}],
        operation_id="readShared",
        tags=["shares"],
        summary="A shared conversation; anybody with its secret may read it",
        responses=documented(404, 429, 503),
    )
    async def read_shared(request: StrictRequest, secret: FromPath[str]) -> Response[SharedObject]:
        pace.take(address_of(request))
        found = await shares.read(sha256_of(secret))
        shared = SharedObject(
            title=found.title, created_at=int(found.created_at.timestamp()), messages=found.messages
        )
        return Response(shared, headers=_PRIVATE)

    return [read_shared]


class _Pace:
    """At most so many a second for each address, of the last so many addresses."""

    def __init__(self, a_second: int) -> None:
        self._a_second = a_second
        self._second = 0
        self._taken: dict[str, int] = {}

    def take(self, address: str) -> None:
        """Raises RateLimited."""
        second = int(monotonic())
        if second != self._second:
            self._second, self._taken = second, {}
        taken = self._taken.pop(address, 0) + 1
        self._taken[address] = taken
        if len(self._taken) > _MOST_ADDRESSES:
            del self._taken[next(iter(self._taken))]
        if taken > self._a_second:
            raise RateLimited("Too many shares are being read right now. Try again shortly.", retry_after_s=1)


def _present(share: Share, url: str | msgspec.UnsetType = msgspec.UNSET) -> ShareObject:
    return ShareObject(
        id=share.id,
        conversation_id=share.conversation_id,
        title=share.title,
        created_at=int(share.created_at.timestamp()),
        messages=share.messages,
        url=url,
    )
