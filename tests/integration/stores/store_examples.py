"""Examples of what is put into the stores."""

import hashlib
from collections.abc import Sequence

import msgspec

from gateways import engine_call
from triplane.domain.completion import Message
from triplane.domain.conversation import NewMessage, OpenedTurn, Principal, UsageEvent
from triplane.domain.events import TurnStatus, Usage
from triplane.domain.ids import new_id
from triplane.domain.money import EngineCall
from triplane.orchestration.ports import HeldTurn, Job, NewTurn, TurnResult

USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)


SOMEBODY_WAITS = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"""
"""Whether a statement in this database waits for another's lock."""


def new_turn(
    conversation_id: str,
    *texts: str,
    request_id: str | None = None,
    parent_id: str | msgspec.UnsetType | None = msgspec.UNSET,
    expected_parent: str | msgspec.UnsetType | None = msgspec.UNSET,
    title: str | None = None,
) -> NewTurn:
    """A turn whose input is these user messages."""
    return NewTurn(
        turn_id=new_id("turn"),
        request_id=request_id or new_id("req"),
        body_sha256=hashlib.sha256("".join(texts).encode()).digest(),
        conversation_id=conversation_id,
        model="smollm2",
        messages=[
            NewMessage(id=new_id("msg"), message=Message(role="user", content=text), token_count=5)
            for text in texts
        ],
        draft_id=new_id("msg"),
        parent_id=parent_id,
        expected_parent=expected_parent,
        provisional_title=title,
    )


def held_by(who: Principal, opened: OpenedTurn) -> HeldTurn:
    return HeldTurn(tenant_id=who.tenant_id, turn_id=opened.turn_id, fence=opened.fence)


def bill(who: Principal, opened: OpenedTurn, *calls: EngineCall) -> list[UsageEvent]:
    """These engine calls of a turn, on its owner's bill."""
    request_id = new_id("req")
    return [
        UsageEvent(
            id=new_id("usage"),
            tenant_id=who.tenant_id,
            user_id=who.user_id,
            request_id=request_id,
            model="smollm2",
            call=call,
            conversation_id=opened.conversation.id,
            turn_id=opened.turn_id,
        )
        for call in calls
    ]


def result(
    who: Principal,
    opened: OpenedTurn,
    *,
    status: TurnStatus = "complete",
    content: str = "The answer.",
    window_from_seq: int | None = None,
    window_summary: str | None = None,
    jobs: Sequence[Job] = (),
) -> TurnResult:
    """How that turn ended, with its bill."""
    return TurnResult(
        turn_id=opened.turn_id,
        conversation_id=opened.conversation.id,
        message_id=opened.message_id,
        status=status,
        content=content,
        tool_calls=None,
        finish_reason="stop",
        token_count=3,
        usage_events=bill(who, opened, engine_call(USAGE)),
        window_from_seq=window_from_seq,
        window_summary=window_summary,
        jobs=list(jobs),
    )
