"""Conversations on their way out of here and in again: the document, and what its stores have to do.

An export is one JSON document. It holds every branch, and importing it makes the same conversations under
new ids.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

import msgspec

from triplane.domain.completion import Content, Role, ToolCall
from triplane.domain.conversation import (
    Conversation,
    ConversationSettings,
    Metadata,
    Principal,
    StoredMessage,
)
from triplane.domain.events import FinishReason

FORMAT = "triplane.export"

MOST_MESSAGES = 20_000
"""Of one conversation."""


class ConversationRefused(Exception):
    """This one can't be read; the message says why, for its owner."""


def require_bounded(messages: int) -> None:
    """Raises ConversationRefused."""
    if messages > MOST_MESSAGES:
        raise ConversationRefused(f"It has more than {MOST_MESSAGES:,} messages.")


EndedStatus = Literal["complete", "incomplete", "stopped", "failed"]
"""What is in a file isn't being written any more."""

_CLOCKS_DIFFER = timedelta(minutes=5)


def is_past(at: datetime) -> bool:
    """A time that something can have been said at, since 1970; clocks differ a bit."""
    return datetime.fromtimestamp(0, UTC) <= at <= datetime.now(UTC) + _CLOCKS_DIFFER


class TransferredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """`parent_id` names a message before this one; None is the conversation's beginning."""

    id: str
    parent_id: str | None = None
    role: Role
    content: Content | None = None
    status: EndedStatus = "complete"
    created_at: datetime
    model: str | None = None
    finish_reason: FinishReason | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @classmethod
    def of(cls, row: StoredMessage) -> "TransferredMessage":
        return cls(
            id=row.id,
            parent_id=row.parent_id,
            role=row.role,
            content=row.content,
            # What is still being written is cut off here.
            status="incomplete" if row.status == "streaming" else row.status,
            created_at=row.created_at,
            model=row.model,
            finish_reason=row.finish_reason,
            tool_calls=row.tool_calls,
            tool_call_id=row.tool_call_id,
        )


class TransferredHead(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation without its messages. Its project stays behind."""

    id: str
    title: str | None = None
    created_at: datetime
    updated_at: datetime
    metadata: Metadata = {}
    pinned: bool = False
    archived: bool = False
    settings: ConversationSettings = ConversationSettings()
    active_leaf: str | None = None

    @classmethod
    def of(cls, conversation: Conversation) -> "TransferredHead":
        return cls(
            id=conversation.id,
            title=conversation.title,
            created_at=conversation.created_at,
            updated_at=conversation.updated_at,
            metadata=conversation.metadata,
            pinned=conversation.pinned,
            archived=conversation.archived,
            settings=conversation.settings,
            active_leaf=conversation.active_leaf,
        )


class TransferredConversation(TransferredHead, frozen=True, kw_only=True):
    """Messages come after their parents; their order is that of `seq`."""

    messages: list[TransferredMessage]


class TransferStore(Protocol):
    async def conversations(self, who: Principal, after_id: str | None, limit: int) -> list[Conversation]:
        """The user's, archived ones too, temporary ones not, in the order of their ids."""
        ...

    async def add(self, who: Principal, source: str, conversation: TransferredConversation) -> bool:
        """Write it whole, or not at all; False if what it was at its source is here already."""
        ...


def imported_key(source: str, conversation_id: str) -> str:
    """What an imported conversation was in the file that it came from."""
    return f"{source}:{conversation_id}"


def in_order(messages: Sequence[TransferredMessage]) -> bool:
    """Whether every parent is there before its children, and every id once."""
    seen: set[str] = set()
    for message in messages:
        if message.id in seen or (message.parent_id is not None and message.parent_id not in seen):
            return False
        seen.add(message.id)
    return True
