"""Shares: snapshots of conversations that whoever has their secret may read.

A share holds what was said on the active path when it was made, and nothing that leads back: no ids, no
instructions, no tool's input or output. Only the hash of the secret is kept, so that the address is known to
whoever was given it and to nobody who reads the database.
"""

from datetime import datetime
from typing import Protocol

import msgspec

from triplane.domain.completion import Role, text_of
from triplane.domain.conversation import Principal, StoredMessage
from triplane.domain.errors import InvalidRequest
from triplane.domain.ids import new_id
from triplane.domain.secrets import new_secret, sha256_of
from triplane.orchestration.conversation_ports import ConversationStore

MOST_MESSAGES = 5000


class SharedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """`created_at` in Unix seconds."""

    role: Role
    content: str
    model: str | None
    created_at: int


class Share(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    conversation_id: str
    title: str | None
    created_at: datetime
    messages: int


class SharedConversation(msgspec.Struct, frozen=True, kw_only=True):
    title: str | None
    created_at: datetime
    messages: list[SharedMessage]


class NewShare(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    conversation_id: str
    secret_sha256: bytes
    title: str | None
    messages: list[SharedMessage]


class ShareStore(Protocol):
    """A share of another tenant or user is `NotFound`."""

    async def add(self, who: Principal, new: NewShare) -> Share: ...

    async def list_page(
        self, who: Principal, conversation_id: str | None, after: str | None, limit: int
    ) -> tuple[list[Share], bool]:
        """Newest first, from behind `after`; and whether there are more."""
        ...

    async def revoke(self, who: Principal, share_id: str) -> None: ...

    async def read(self, secret_sha256: bytes) -> SharedConversation:
        """For anybody. Raises NotFound once it is revoked or its conversation is deleted."""
        ...


async def share_conversation(
    who: Principal, conversation_id: str, conversations: ConversationStore, shares: ShareStore
) -> tuple[Share, str]:
    """The share and its secret, which nobody can read again. Raises NotFound, InvalidRequest."""
    conversation = await conversations.get(who, conversation_id)
    rows, has_more = await conversations.messages(who, conversation_id, 0, MOST_MESSAGES, only_active=True)
    if has_more:
        raise InvalidRequest(
            f"This conversation has more than {MOST_MESSAGES:,} messages: export it instead."
        )
    told = [_shared(row) for row in rows if _is_told(row)]
    if not told:
        raise InvalidRequest("There is nothing to share yet: the conversation has no message.")
    secret = new_secret()
    share = await shares.add(
        who,
        NewShare(
            id=new_id("share"),
            conversation_id=conversation_id,
            secret_sha256=sha256_of(secret),
            title=conversation.title,
            messages=told,
        ),
    )
    return share, secret


def _is_told(row: StoredMessage) -> bool:
    return row.role in ("user", "assistant") and row.status != "streaming" and bool(text_of(row.content))


def _shared(row: StoredMessage) -> SharedMessage:
    return SharedMessage(
        role=row.role,
        content=text_of(row.content),
        model=row.model,
        created_at=int(row.created_at.timestamp()),
    )
