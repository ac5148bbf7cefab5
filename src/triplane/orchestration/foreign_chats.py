"""Conversations as other products export them.

ChatGPT: `conversations.json` is a list; each has a `mapping` of nodes with `message`, `parent`, `children`,
and `current_node`. Open WebUI: a list; each has `chat.history.messages` by id, with `parentId` and
`childrenIds`, and `chat.history.currentId`. Both are trees: nodes without text are passed over; what hangs
below them moves up.
"""

import hashlib
import heapq
import math
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from triplane.domain.completion import Role
from triplane.orchestration.transfer import (
    ConversationRefused,
    TransferredConversation,
    TransferredMessage,
    is_past,
    require_bounded,
)


class _Node(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a tree; `text` None has nothing to show."""

    id: str
    parent: str | None
    role: Role = "user"
    text: str | None = None
    at: datetime | None = None
    model: str | None = None


class _Author(msgspec.Struct, frozen=True):
    role: str = ""


class _Content(msgspec.Struct, frozen=True):
    content_type: str = "text"
    parts: list[Any] | None = None
    text: str | None = None


class _ChatGPTMessage(msgspec.Struct, frozen=True):
    author: _Author = _Author()
    content: _Content | None = None
    create_time: float | None = None
    recipient: str | None = None
    metadata: dict[str, Any] | None = None


class _ChatGPTNode(msgspec.Struct, frozen=True):
    message: _ChatGPTMessage | None = None
    parent: str | None = None
    children: list[str] | None = None


class _ChatGPT(msgspec.Struct, frozen=True):
    mapping: dict[str, _ChatGPTNode]
    title: str | None = None
    create_time: float | None = None
    update_time: float | None = None
    current_node: str | None = None
    conversation_id: str | None = None
    id: str | None = None
    is_archived: bool | None = None


def read_chatgpt(raw: bytes | msgspec.Raw) -> TransferredConversation:
    """Raises ConversationRefused, msgspec.DecodeError (with the place of what is wrong)."""
    chat = msgspec.json.decode(raw, type=_ChatGPT)
    parents = _parents({name: (node.parent, node.children) for name, node in chat.mapping.items()})
    nodes = [
        _chatgpt_node(name, parents[name], node.message)
        if node.message
        else _Node(id=name, parent=parents[name])
        for name, node in chat.mapping.items()
    ]
    return _conversation(
        chat.conversation_id or chat.id or _digest(raw),
        chat.title,
        (_time(chat.create_time), _time(chat.update_time)),
        nodes,
        chat.current_node,
        archived=bool(chat.is_archived),
    )


_SHOWN = ("text", "multimodal_text", "code")


def _chatgpt_node(name: str, parent: str | None, message: _ChatGPTMessage) -> _Node:
    """Calls of tools, their results and thoughts are left out: without their tools they say nothing."""
    metadata, content = message.metadata or {}, message.content
    hidden = (
        content is None
        or content.content_type not in _SHOWN
        or message.recipient not in (None, "all")
        or message.author.role not in ("user", "assistant", "system")
        or metadata.get("is_visually_hidden_from_conversation") is True
    )
    if hidden or content is None:
        return _Node(id=name, parent=parent, at=_time(message.create_time))
    parts = [content.text or "", *(_part(each) for each in content.parts or [])]
    model = metadata.get("model_slug")
    return _Node(
        id=name,
        parent=parent,
        role=_role(message.author.role),
        text="\n".join(part for part in parts if part),
        at=_time(message.create_time),
        model=model if isinstance(model, str) else None,
    )


def _part(part: Any) -> str:
    """Text, or a word in place of what isn't."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    if isinstance(part.get("text"), str):
        return str(part["text"])
    kind = str(part.get("content_type", ""))
    return next((f"[{word}]" for word in ("image", "audio", "video") if kind.startswith(word)), "")


class _WebUIMessage(msgspec.Struct, frozen=True):
    role: str
    content: Any = None
    parent: str | None = msgspec.field(default=None, name="parentId")
    children: list[str] | None = msgspec.field(default=None, name="childrenIds")
    timestamp: float | None = None
    model: str | None = None


class _WebUIHistory(msgspec.Struct, frozen=True):
    messages: dict[str, _WebUIMessage]
    current: str | None = msgspec.field(default=None, name="currentId")


class _WebUIChat(msgspec.Struct, frozen=True):
    history: _WebUIHistory
    title: str | None = None
    timestamp: float | None = None


class _WebUI(msgspec.Struct, frozen=True):
    chat: _WebUIChat
    id: str | None = None
    title: str | None = None
    created_at: float | None = None
    updated_at: float | None = None
    archived: bool | None = None
    pinned: bool | None = None


def read_open_webui(raw: bytes | msgspec.Raw) -> TransferredConversation:
    """Raises ConversationRefused, msgspec.DecodeError (with the place of what is wrong)."""
    export = msgspec.json.decode(raw, type=_WebUI)
    history = export.chat.history
    parents = _parents({name: (each.parent, each.children) for name, each in history.messages.items()})
    nodes = [
        _Node(
            id=name,
            parent=parents[name],
            role=_role(each.role),
            text=_webui_text(each.content) if each.role in ("user", "assistant", "system") else None,
            at=_time(each.timestamp),
            model=each.model,
        )
        for name, each in history.messages.items()
    ]
    return _conversation(
        export.id or _digest(raw),
        export.title or export.chat.title,
        (_time(export.created_at) or _time(export.chat.timestamp), _time(export.updated_at)),
        nodes,
        history.current,
        archived=bool(export.archived),
        pinned=bool(export.pinned),
    )


def _webui_text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(part for part in map(_part, content) if part)
    return content if isinstance(content, str) else ""


def _parents(links: dict[str, tuple[str | None, list[str] | None]]) -> dict[str, str | None]:
    """Each node's parent, from whichever of the two links is there; one outside the tree is none."""
    told = {child: name for name, (_, children) in links.items() for child in children or []}
    return {name: parent if parent in links else told.get(name) for name, (parent, _) in links.items()}


def _conversation(
    conversation_id: str,
    title: str | None,
    times: tuple[datetime | None, datetime | None],
    nodes: list[_Node],
    current: str | None,
    *,
    archived: bool = False,
    pinned: bool = False,
) -> TransferredConversation:
    kept = _ordered(nodes)
    require_bounded(len(kept))
    shown = {node.id for node in kept}
    above = {node.id: node.parent for node in nodes}
    created = times[0] or next((node.at for node in kept if node.at), None) or datetime.now(UTC)
    messages: list[TransferredMessage] = []
    last = created
    for node in kept:
        last = node.at or last
        messages.append(
            TransferredMessage(
                id=node.id,
                parent_id=nearest_shown(node.parent, above, shown),
                role=node.role,
                content=node.text,
                created_at=last,
                model=node.model,
            )
        )
    return TransferredConversation(
        id=conversation_id,
        title=title,
        created_at=created,
        updated_at=times[1] or last,
        archived=archived,
        pinned=pinned,
        active_leaf=nearest_shown(current, above, shown),
        messages=messages,
    )


def nearest_shown(name: str | None, above: dict[str, str | None], shown: set[str]) -> str | None:
    """The node itself if it is shown, or the nearest above it that is.

    What was passed on the way points there from now on: a long hidden chain is climbed once.
    """
    passed: list[str] = []
    while name is not None and name not in shown:
        passed.append(name)
        name = above.get(name)
    above.update(dict.fromkeys(passed, name))
    return name


def _ordered(nodes: list[_Node]) -> list[_Node]:
    """Those with text, parents first, else by time and place in the file. Raises ConversationRefused."""
    places = {node.id: place for place, node in enumerate(nodes)}
    below: dict[str | None, list[_Node]] = {}
    for node in nodes:
        below.setdefault(node.parent, []).append(node)
    waiting: list[tuple[float, int]] = []

    def release(parent: str | None, since: float) -> None:
        for node in below.get(parent, []):
            at = max(since, node.at.timestamp()) if node.at else since
            heapq.heappush(waiting, (at, places[node.id]))

    release(None, 0.0)
    found: list[_Node] = []
    while waiting:
        at, place = heapq.heappop(waiting)
        found.append(nodes[place])
        release(nodes[place].id, at)
    if len(found) < len(nodes):
        raise ConversationRefused("Its messages form a circle.")
    return [node for node in found if node.text and node.text.strip()]


def _role(role: str) -> Literal["user", "assistant", "system"]:
    return "assistant" if role == "assistant" else "system" if role == "system" else "user"


def _time(at: float | None) -> datetime | None:
    """A time in seconds, or in the finer units that some versions wrote; None if it is no time of ours."""
    if at is None or not math.isfinite(at) or at <= 0:
        return None
    while at > 1e11:
        at /= 1000
    time = datetime.fromtimestamp(at, UTC)
    return time if is_past(time) else None


def _digest(raw: bytes | msgspec.Raw) -> str:
    """A name for what has none: the same file has the same."""
    return hashlib.sha256(raw).hexdigest()
