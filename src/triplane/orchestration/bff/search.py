"""`GET /v1/search`: conversations by the words in them."""

import asyncio
import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter

from triplane.domain.completion import Role
from triplane.domain.errors import InvalidRequest
from triplane.domain.ids import is_id
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.searching import (
    Found,
    SearchCursor,
    SearchQuery,
    SearchStore,
    Segment,
    highlight,
    snippet,
)

LONGEST_QUERY = 200


class SearchHit(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation, each at most once. Without `message_id` only its title has the words."""

    object: Literal["search.hit"] = "search.hit"
    conversation_id: str
    title: list[Segment]
    message_id: str | None
    seq: int | None
    role: Role | None
    snippet: list[Segment]
    updated_at: int
    archived: bool


class SearchResults(msgspec.Struct, frozen=True, kw_only=True):
    """`next` is the cursor (`after`) of the next page, if there is one."""

    object: Literal["list"] = "list"
    data: list[SearchHit]
    next: str | None


def search_handlers(search: SearchStore) -> list[HTTPRouteHandler]:
    @get(
        "/v1/search",
        operation_id="searchConversations",
        tags=["conversations"],
        summary="Find conversations by the words of their titles and messages",
        responses=documented(400, 401, 503),
    )
    async def search_conversations(
        request: StrictRequest,
        q: Annotated[str, QueryParameter(min_length=1, max_length=LONGEST_QUERY)],
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        after: FromQuery[str | None] = None,
        project_id: FromQuery[str | None] = None,
        include_archived: FromQuery[bool] = False,
    ) -> SearchResults:
        if project_id not in (None, "none") and not is_id("proj", project_id or ""):
            raise InvalidRequest("project_id: this is not the id of a project.", param="project_id")
        query = SearchQuery(text=q, project_id=project_id, include_archived=include_archived)
        cursor = None if after is None else _read_cursor(after)
        found, at = await search.search(request.principal, query, cursor, limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        following = last and SearchCursor(
            at=at, by_title=last.by_title, score=last.score, conversation_id=last.conversation_id
        )
        return SearchResults(
            data=await asyncio.to_thread(_present_all, found[:limit], q),
            next=_written(following) if following else None,
        )

    return [search_conversations]


def _written(cursor: SearchCursor) -> str:
    return urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def _read_cursor(after: str) -> SearchCursor:
    try:
        raw = urlsafe_b64decode(after + "=" * (-len(after) % 4))
        cursor = msgspec.json.decode(raw, type=SearchCursor)
        if cursor.at.tzinfo is None or not is_id("conv", cursor.conversation_id):
            raise ValueError
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise InvalidRequest("after: this is no cursor of a search.", param="after") from None
    return cursor


def _present_all(found: list[Found], query: str) -> list[SearchHit]:
    """Blocks: a hundred long messages are work."""
    return [_present(each, query) for each in found]


def _present(found: Found, query: str) -> SearchHit:
    return SearchHit(
        conversation_id=found.conversation_id,
        title=highlight(found.title or "", query),
        message_id=found.message_id,
        seq=found.seq,
        role=found.role,
        snippet=snippet(found.text, query) if found.message_id else [],
        updated_at=int(found.updated_at.timestamp()),
        archived=found.archived,
    )
