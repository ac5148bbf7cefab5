"""Where the history of a prompt is kept, as Protocols: near and losable, and for good."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from triplane.domain.conversation import Principal, StoredMessage, Summary


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What a prompt is built from: messages, oldest first, ending in `leaf_id`; a summary of those before.

    Both stay as they are from turn to turn until a cut, so that the engine finds the same prefix.
    """

    leaf_id: str
    messages: list[StoredMessage]
    summary: Summary | None = None


class HotWindow(Protocol):
    """A cache: losing it costs one query. Its methods never fail: it answers as if empty then."""

    async def get(self, tenant_id: str, conversation_id: str) -> Window | None: ...

    def put(self, tenant_id: str, conversation_id: str, window: Window) -> None:
        """Keep it, before whatever this process writes to the replay log from now on; doesn't wait."""
        ...

    async def drop(self, tenant_id: str, conversation_id: str) -> None: ...


class Unsummarised(msgspec.Struct, frozen=True, kw_only=True):
    """The messages that no summary covers yet, oldest first, and the summary of those before them."""

    previous: Summary | None
    messages: list[StoredMessage]


class HistoryStore(Protocol):
    """The windows and summaries of conversations. A conversation of another tenant or user is `NotFound`."""

    async def window(self, who: Principal, conversation_id: str, leaf_id: str) -> Window:
        """The window as the turn that wrote `leaf_id` left it: what the hot window held, if it is lost."""
        ...

    async def newest_summary(
        self, who: Principal, conversation_id: str, message_ids: Sequence[str]
    ) -> Summary | None:
        """The newest summary that ends right before one of these messages."""
        ...

    async def active_summary(self, who: Principal, conversation_id: str) -> Summary | None:
        """The summary that the prompt of the active branch holds now."""
        ...

    async def unsummarised(
        self, who: Principal, conversation_id: str, before_id: str, limit: int
    ) -> Unsummarised:
        """What a summary that ends right before this message has to cover: at most `limit` messages."""
        ...

    async def add_summary(self, who: Principal, conversation_id: str, summary: Summary) -> None:
        """Keep a summary; one that ends at the same message stays as it is."""
        ...
