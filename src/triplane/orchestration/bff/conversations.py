"""Conversations and their messages, with the shapes of OpenAI's Conversations API."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import HttpMethod, delete, get, post, route
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from triplane.domain.completion import Content, Message, Role, TextPart, ToolCall
from triplane.domain.conversation import Conversation, ConversationSettings, Metadata, StoredMessage
from triplane.domain.errors import InvalidRequest, NotFound
from triplane.domain.events import FinishReason, TurnStatus
from triplane.domain.ids import is_id
from triplane.orchestration import conversation_ports
from triplane.orchestration.announcing import announce_conversation, announce_marks
from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.pages import Deleted, Page, page_of
from triplane.orchestration.bff.request import StrictRequest

_LARGEST_SEQ = 2**31 - 1

Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class InputText(msgspec.Struct, frozen=True, tag="input_text", forbid_unknown_fields=True):
    text: Text


class OutputText(msgspec.Struct, frozen=True, tag="output_text", forbid_unknown_fields=True):
    """`annotations` may be sent back as they came from us: empty."""

    text: Text
    annotations: Annotated[list[Any], msgspec.Meta(max_length=0)] = []


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message that the conversation begins with."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Annotated[list[InputText | OutputText], msgspec.Meta(min_length=1)]


class WireSettings(ConversationSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for every turn of the conversation that doesn't say otherwise."""


class NewConversation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: Title | None = None
    metadata: Metadata | None = None
    items: Annotated[list[Item], msgspec.Meta(max_length=100)] | None = None
    project_id: str | None = None
    temporary: bool = False
    settings: WireSettings | None = None


class ConversationChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is. `active_leaf`: show the branch of this message.

    `project_id` null takes the conversation out of its project; `settings` replace those before.
    """

    title: Title | None = None
    metadata: Metadata | None = None
    active_leaf: str | None = None
    pinned: bool | None = None
    archived: bool | None = None
    project_id: str | msgspec.UnsetType | None = msgspec.UNSET
    settings: WireSettings | None = None


class ConversationObject(msgspec.Struct, frozen=True, kw_only=True):
    """Times in Unix seconds."""

    id: str
    object: Literal["conversation"] = "conversation"
    title: str | None
    created_at: int
    updated_at: int
    metadata: dict[str, str]
    active_leaf: str | None
    pinned: bool
    archived: bool
    project_id: str | None
    temporary: bool
    settings: WireSettings


class MessageObject(msgspec.Struct, frozen=True, kw_only=True):
    """`seq` counts the conversation's messages from 1, without a gap."""

    id: str
    object: Literal["conversation.message"] = "conversation.message"
    seq: int
    role: Role
    content: Content | None
    status: TurnStatus
    created_at: int
    parent_id: str | None
    turn_id: str | None
    model: str | None
    finish_reason: FinishReason | None
    tool_calls: list[ToolCall] | None
    tool_call_id: str | None


@post(
    "/v1/conversations",
    tags=["conversations"],
    summary="Begin a conversation",
    status_code=200,
    responses=documented(400, 401, 403, 404, 413, 415),
)
async def create_conversation(
    request: StrictRequest, deps: Deps, data: JSONBody[NewConversation | None] = None
) -> ConversationObject:
    new = data or NewConversation()
    messages = [Message(role=item.role, content=_content_of(item)) for item in new.items or []]
    created = await deps.conversations.create(
        request.principal,
        _title(new.title),
        new.metadata or {},
        messages,
        conversation_ports.NewConversation(
            project_id=require_project_id(new.project_id),
            temporary=new.temporary,
            settings=new.settings or ConversationSettings(),
        ),
    )
    if not created.temporary:
        announce_conversation(
            deps.announcer, request.principal, "conversation.created", created.id, created.title
        )
    return present_conversation(created)


@get(
    "/v1/conversations",
    tags=["conversations"],
    summary="List conversations, newest activity first",
    responses=documented(400, 401, 404),
)
async def list_conversations(
    request: StrictRequest,
    deps: Deps,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    after: FromQuery[str | None] = None,
    archived: FromQuery[bool] = False,
    pinned: FromQuery[bool | None] = None,
    project_id: FromQuery[str | None] = None,
) -> Page[ConversationObject]:
    """Those that aren't archived, of all projects. `project_id=none`: of no project."""
    if after is not None and not is_id("conv", after):
        raise InvalidRequest("after: this is not the id of a conversation.", param="after")
    which = conversation_ports.ConversationFilter(
        archived=archived,
        pinned=pinned,
        project_id=msgspec.UNSET if project_id is None else None if project_id == "none" else project_id,
    )
    found, has_more = await deps.conversations.list_page(request.principal, after, limit, which)
    return page_of([present_conversation(one) for one in found], has_more=has_more)


@get(
    "/v1/conversations/{conversation_id:str}",
    tags=["conversations"],
    summary="One conversation",
    responses=documented(401, 404),
)
async def get_conversation(
    request: StrictRequest, deps: Deps, conversation_id: FromPath[str]
) -> ConversationObject:
    return present_conversation(
        await deps.conversations.get(request.principal, known_conversation(conversation_id))
    )


@route(
    "/v1/conversations/{conversation_id:str}",
    http_method=[HttpMethod.POST, HttpMethod.PATCH],
    tags=["conversations"],
    summary="Rename, pin, archive or move a conversation, change its settings, show another branch",
    status_code=200,
    responses=documented(400, 401, 403, 404, 413, 415),
)
async def update_conversation(
    request: StrictRequest, deps: Deps, conversation_id: FromPath[str], data: JSONBody[ConversationChange]
) -> ConversationObject:
    if data.active_leaf is not None and not is_id("msg", data.active_leaf):
        raise NotFound("The conversation has no such message.", param="active_leaf")
    changed = await deps.conversations.update(
        request.principal,
        known_conversation(conversation_id),
        _title(data.title),
        data.metadata,
        data.active_leaf,
        conversation_ports.ConversationChange(
            pinned=data.pinned,
            archived=data.archived,
            project_id=changed_project(data.project_id),
            settings=data.settings,
        ),
    )
    announce_marks(deps.announcer, request.principal, "conversation.updated", changed)
    return present_conversation(changed)


@delete(
    "/v1/conversations/{conversation_id:str}",
    tags=["conversations"],
    summary="Delete a conversation",
    status_code=200,
    responses=documented(401, 403, 404),
)
async def delete_conversation(request: StrictRequest, deps: Deps, conversation_id: FromPath[str]) -> Deleted:
    await deps.conversations.delete(request.principal, known_conversation(conversation_id))
    announce_conversation(deps.announcer, request.principal, "conversation.deleted", conversation_id)
    return Deleted(id=conversation_id, object="conversation.deleted")


@get(
    "/v1/conversations/{conversation_id:str}/messages",
    tags=["conversations"],
    summary="A conversation's messages, oldest first; with `before`, the newest ones before that `seq`",
    responses=documented(400, 401, 404),
)
async def list_messages(
    request: StrictRequest,
    deps: Deps,
    conversation_id: FromPath[str],
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    after: Annotated[int, QueryParameter(ge=0, le=_LARGEST_SEQ)] = 0,
    before: Annotated[int | None, QueryParameter(ge=1, le=_LARGEST_SEQ)] = None,
    path: FromQuery[Literal["active"] | None] = None,
) -> Page[MessageObject]:
    if before is not None:
        if after or path:
            raise InvalidRequest("before goes without after and path.", param="before")
        newest, has_older = await deps.conversations.messages_before(
            request.principal, known_conversation(conversation_id), before, limit
        )
        return page_of([present_message(one) for one in newest], has_more=has_older)
    found, has_more = await deps.conversations.messages(
        request.principal, known_conversation(conversation_id), after, limit, only_active=path == "active"
    )
    return page_of([present_message(one) for one in found], has_more=has_more)


def known_conversation(conversation_id: str) -> str:
    """What can't be an id can't exist: the store isn't asked."""
    if not is_id("conv", conversation_id):
        raise NotFound("There is no such conversation.")
    return conversation_id


def require_project_id(project_id: str | None) -> str | None:
    """What can't be an id can't exist. Raises NotFound."""
    if project_id is not None and not is_id("proj", project_id):
        raise NotFound("There is no such project.", param="project_id")
    return project_id


def changed_project(project_id: str | msgspec.UnsetType | None) -> str | msgspec.UnsetType | None:
    """None takes a conversation out of its project; no other value does. Raises NotFound."""
    return msgspec.UNSET if project_id is msgspec.UNSET else require_project_id(project_id)


def _title(title: str | None) -> str | None:
    if title is None:
        return None
    if not title.strip():
        raise InvalidRequest("title: write at least one letter.", param="title")
    return title.strip()


def _content_of(item: Item) -> Content:
    if isinstance(item.content, str):
        return item.content
    return [TextPart(text=part.text) for part in item.content]


def present_conversation(conversation: Conversation) -> ConversationObject:
    return ConversationObject(
        id=conversation.id,
        title=conversation.title,
        created_at=int(conversation.created_at.timestamp()),
        updated_at=int(conversation.updated_at.timestamp()),
        metadata=conversation.metadata,
        active_leaf=conversation.active_leaf,
        pinned=conversation.pinned,
        archived=conversation.archived,
        project_id=conversation.project_id,
        temporary=conversation.temporary,
        settings=WireSettings(**msgspec.structs.asdict(conversation.settings)),
    )


def present_message(message: StoredMessage) -> MessageObject:
    return MessageObject(
        id=message.id,
        seq=message.seq,
        role=message.role,
        content=message.content,
        status=message.status,
        created_at=int(message.created_at.timestamp()),
        parent_id=message.parent_id,
        turn_id=message.turn_id,
        model=message.model,
        finish_reason=message.finish_reason,
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
    )


CONVERSATION_HANDLERS: list[HTTPRouteHandler] = [
    create_conversation,
    list_conversations,
    get_conversation,
    update_conversation,
    delete_conversation,
    list_messages,
]
