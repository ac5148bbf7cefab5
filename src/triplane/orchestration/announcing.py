"""Telling a user's devices what has changed, and each process which turns are to stop, as Protocols.

Both are a courtesy: what they say stands in the store, and nothing breaks when it isn't heard.
"""

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

from triplane.domain.announcements import Announced, Announcement, Change
from triplane.domain.conversation import Conversation, OpenedTurn, Principal
from triplane.domain.events import TurnStatus


class Announcer(Protocol):
    def announce(self, tenant_id: str, user_id: str, announcement: Announcement) -> None:
        """Tell the user's devices, soon. Never fails and never waits."""
        ...


class NobodyListens:
    """The announcer of changes that nobody follows."""

    def announce(self, tenant_id: str, user_id: str, announcement: Announcement) -> None:
        pass


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """Where a device's stream goes on. `has_missed`: what came before that is no longer known."""

    place: str
    has_missed: bool


class Announcements(Protocol):
    async def resume(self, who: Principal, place: str | None) -> Resumed:
        """Behind `place`, the last that the device has seen, or now. Raises StoreUnavailable."""
        ...

    def follow(self, who: Principal, place: str) -> AsyncGenerator[Announced | None, None]:
        """The user's announcements behind `place`; None now and then while there are none."""
        ...


class StopSignals(Protocol):
    async def send(self, turn_id: str) -> None:
        """Tell every process, at once, that this turn is to stop. Never fails."""
        ...


class NoSignals:
    """The signals of a process that runs alone."""

    async def send(self, turn_id: str) -> None:
        pass


def announce_start(announcer: Announcer, who: Principal, opened: OpenedTurn) -> None:
    announcer.announce(
        who.tenant_id,
        who.user_id,
        Announcement(
            type="turn.started",
            conversation_id=opened.conversation.id,
            turn_id=opened.turn_id,
            title=opened.conversation.title,
            status="streaming",
        ),
    )


def announce_end(announcer: Announcer, who: Principal, opened: OpenedTurn, status: TurnStatus) -> None:
    announcer.announce(
        who.tenant_id,
        who.user_id,
        Announcement(
            type="turn.ended",
            conversation_id=opened.conversation.id,
            turn_id=opened.turn_id,
            status=status,
        ),
    )


def announce_conversation(
    announcer: Announcer,
    who: Principal,
    change: Change,
    conversation_id: str | None,
    title: str | None = None,
) -> None:
    announcement = Announcement(type=change, conversation_id=conversation_id, title=title)
    announcer.announce(who.tenant_id, who.user_id, announcement)


def announce_marks(announcer: Announcer, who: Principal, change: Change, conversation: Conversation) -> None:
    """A conversation as a list shows it now."""
    announcement = Announcement(
        type=change,
        conversation_id=conversation.id,
        title=conversation.title,
        pinned=conversation.pinned,
        archived=conversation.archived,
        project_id=conversation.project_id,
    )
    announcer.announce(who.tenant_id, who.user_id, announcement)


def announce_project(announcer: Announcer, who: Principal, change: Change, project_id: str) -> None:
    announcer.announce(who.tenant_id, who.user_id, Announcement(type=change, project_id=project_id))
