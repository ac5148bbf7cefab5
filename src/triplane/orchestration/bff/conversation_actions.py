"""Taking a deletion back, and doing the same to many conversations at once."""

from typing import Annotated, Literal

import msgspec
from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from triplane.domain.announcements import Change
from triplane.domain.errors import InvalidRequest
from triplane.orchestration.announcing import announce_marks
from triplane.orchestration.bff.conversations import (
    ConversationObject,
    changed_project,
    known_conversation,
    present_conversation,
)
from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.conversation_ports import BulkAction

_CHANGES: dict[str, Change] = {"delete": "conversation.deleted", "restore": "conversation.created"}


class BulkChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`project_id` is for `move`: null takes the conversations out of their projects."""

    action: BulkAction
    ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=100)]
    project_id: str | msgspec.UnsetType | None = msgspec.UNSET


class BulkOutcome(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["conversation.bulk"] = "conversation.bulk"
    done: list[str]
    not_found: list[str]


@post(
    "/v1/conversations/{conversation_id:str}/restore",
    operation_id="restoreConversation",
    tags=["conversations"],
    summary="Take the deletion of a conversation back, while it is kept",
    status_code=200,
    responses=documented(401, 403, 404),
)
async def restore_conversation(
    request: StrictRequest, deps: Deps, conversation_id: FromPath[str]
) -> ConversationObject:
    who = request.principal
    restored = await deps.conversations.restore(who, known_conversation(conversation_id))
    announce_marks(deps.announcer, who, "conversation.created", restored)
    return present_conversation(restored)


@post(
    "/v1/conversations/bulk",
    operation_id="changeConversations",
    tags=["conversations"],
    summary="Archive, pin, move, delete or restore many conversations",
    status_code=200,
    responses=documented(400, 401, 403, 404, 413, 415),
)
async def change_conversations(request: StrictRequest, deps: Deps, data: JSONBody[BulkChange]) -> BulkOutcome:
    if (data.action == "move") != (data.project_id is not msgspec.UNSET):
        raise InvalidRequest("project_id goes with move, and move with project_id.", param="project_id")
    ids, project_id = list(dict.fromkeys(data.ids)), changed_project(data.project_id) or None
    who = request.principal
    changed = await deps.conversations.change_many(who, ids, data.action, project_id)
    for each in changed:
        announce_marks(deps.announcer, who, _CHANGES.get(data.action, "conversation.updated"), each)
    done = {each.id for each in changed}
    return BulkOutcome(
        done=[each for each in ids if each in done], not_found=[each for each in ids if each not in done]
    )


CONVERSATION_ACTION_HANDLERS: list[HTTPRouteHandler] = [restore_conversation, change_conversations]
