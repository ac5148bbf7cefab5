"""What is needed of the store of conversations, as a Protocol.

Every method may raise `StoreUnavailable`. A conversation or project of another tenant or user is `NotFound`.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from triplane.domain.completion import Message
from triplane.domain.conversation import (
    Conversation,
    ConversationSettings,
    Principal,
    StoredMessage,
)


class NewConversation(msgspec.Struct, frozen=True, kw_only=True):
    """What a new conversation is beside title, metadata and items.

    A `temporary` one is in no list and is removed after a day.
    """

    project_id: str | None = None
    temporary: bool = False
    settings: ConversationSettings = ConversationSettings()


class ConversationFilter(msgspec.Struct, frozen=True, kw_only=True):
    """ConversationFilter conversations a list holds; `project_id` None is those of no project, unset all."""

    archived: bool = False
    pinned: bool | None = None
    project_id: str | msgspec.UnsetType | None = msgspec.UNSET


class ConversationChange(msgspec.Struct, frozen=True, kw_only=True):
    """Changes beside title and metadata. `project_id` None takes a conversation out of its project."""

    pinned: bool | None = None
    archived: bool | None = None
    project_id: str | msgspec.UnsetType | None = msgspec.UNSET
    settings: ConversationSettings | None = None


BulkAction = Literal["archive", "unarchive", "pin", "unpin", "delete", "restore", "move"]


class ConversationStore(Protocol):
    async def create(
        self,
        who: Principal,
        title: str | None,
        metadata: dict[str, str],
        items: Sequence[Message],
        place: NewConversation | None = None,
    ) -> Conversation:
        """Raises NotFound for a project that isn't the user's."""
        ...

    async def get(self, who: Principal, conversation_id: str) -> Conversation: ...

    async def list_page(
        self, who: Principal, after: str | None, limit: int, which: ConversationFilter | None = None
    ) -> tuple[list[Conversation], bool]:
        """Newest activity first, from behind the conversation `after`; and whether there are more.

        Those that aren't archived, unless `which` says otherwise.
        """
        ...

    async def update(
        self,
        who: Principal,
        conversation_id: str,
        title: str | None,
        metadata: dict[str, str] | None,
        active_leaf: str | None = None,
        marks: ConversationChange | None = None,
    ) -> Conversation:
        """Change what is given; None leaves it. `active_leaf` shows the newest leaf below this message.

        Raises NotFound, for a message that isn't in the conversation too, and for an unknown project.
        """
        ...

    async def set_generated_title(self, tenant_id: str, conversation_id: str, title: str) -> bool:
        """Set a title unless a person has named the conversation meanwhile."""
        ...

    async def delete(self, who: Principal, conversation_id: str) -> None:
        """Leave a tombstone. From then on the conversation is NotFound."""
        ...

    async def restore(self, who: Principal, conversation_id: str) -> Conversation:
        """Take the tombstone away again; one that has none stays as it is. Raises NotFound."""
        ...

    async def change_many(
        self, who: Principal, ids: Sequence[str], action: BulkAction, project_id: str | None
    ) -> list[Conversation]:
        """Do the same to many; those that aren't found are left out. Raises NotFound for the project."""
        ...

    async def model_of(self, who: Principal, conversation_id: str) -> str | None:
        """The model of a turn that names none: the conversation's, else the user's. Raises NotFound."""
        ...

    async def messages(
        self, who: Principal, conversation_id: str, after_seq: int, limit: int, *, only_active: bool = False
    ) -> tuple[list[StoredMessage], bool]:
        """Oldest first, from behind `after_seq`; and whether there are more. All, or the active path."""
        ...

    async def messages_before(
        self, who: Principal, conversation_id: str, before_seq: int, limit: int
    ) -> tuple[list[StoredMessage], bool]:
        """The newest before `before_seq`, oldest first; and whether there are older ones."""
        ...

    async def path(
        self, who: Principal, conversation_id: str, leaf_id: str, from_seq: int
    ) -> list[StoredMessage]:
        """The messages from `leaf_id` up its parents to `from_seq`, oldest first."""
        ...
