"""What a user's devices are told while they are open: which conversations and turns have changed."""

from typing import Literal

import msgspec

from triplane.domain.events import TurnStatus

Change = Literal[
    "conversation.created",
    "conversation.updated",
    "conversation.deleted",
    "project.created",
    "project.updated",
    "project.deleted",
    "turn.started",
    "turn.ended",
]


class Announcement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change; only the part of it that a list of conversations shows.

    Pins, archives and moves are told by `pinned`, `archived` and `project_id`, of which unset is unknown.
    """

    type: Change
    conversation_id: str | None = None
    turn_id: str | None = None
    title: str | None = None
    status: TurnStatus | None = None
    pinned: bool | None = None
    archived: bool | None = None
    project_id: str | msgspec.UnsetType | None = msgspec.UNSET


class Announced(msgspec.Struct, frozen=True):
    """An announcement and its place in the user's stream, which a device resumes behind."""

    place: str
    announcement: Announcement
