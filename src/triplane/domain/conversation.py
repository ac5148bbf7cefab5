"""Conversations, their messages and turns, as the store keeps them and the API shows them."""

from datetime import datetime
from typing import Annotated

import msgspec

from triplane.domain.completion import Content, Message, Role, ToolCall
from triplane.domain.events import FinishReason, TurnStatus, Usage
from triplane.domain.limits import LimitState, TokenLimit
from triplane.domain.money import EngineCall


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. Every query carries `tenant_id`; what a user owns is checked by `user_id` too.

    With `caches_answers`, a property of the API key, an answer may come from the response cache. They came
    with the key, or the session, that is named. `plan` None is everybody's.
    """

    tenant_id: str
    user_id: str
    is_admin: bool = False
    api_key_id: str | None = None
    caches_answers: bool = False
    plan: str | None = None
    session_id: str | None = None


Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]
Instructions = Annotated[str, msgspec.Meta(max_length=8000)]


class ConversationSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for every turn of a conversation that doesn't say otherwise.

    Rows are held to the bounds too, as they are read: bounds only ever widen.
    """

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    max_tokens: TokenLimit | None = None
    instructions: Instructions | None = None


class TurnSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a turn is drawn by where its own request is silent, as it stood when the turn was opened.

    `instructions` are the user's, the project's and the conversation's, in this order.
    """

    instructions: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    title: str | None
    created_at: datetime
    updated_at: datetime
    last_seq: int = 0
    metadata: dict[str, str] = {}
    active_leaf: str | None = None
    pinned: bool = False
    archived: bool = False
    project_id: str | None = None
    temporary: bool = False
    settings: ConversationSettings = ConversationSettings()


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message row. `seq` is unique and gap-free in its conversation, from 1.

    `token_count` is the engine's own count of the message in its template, None until known.
    """

    id: str
    seq: int
    role: Role
    content: Content | None
    status: TurnStatus
    created_at: datetime
    parent_id: str | None = None
    turn_id: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    model: str | None = None
    finish_reason: FinishReason | None = None
    token_count: int | None = None

    def as_prompt(self) -> Message:
        """The message as the engine sees it."""
        return Message(
            role=self.role, content=self.content, tool_calls=self.tool_calls, tool_call_id=self.tool_call_id
        )


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What the model is told in place of all messages above `from_message_id`; `upto_seq` is their newest.

    It holds for every path through that message. Its tokens are those of the whole block in the prompt.
    """

    from_message_id: str
    upto_seq: int
    text: str
    token_count: int
    created_at: datetime


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a turn brings in: the user's text, or the results of tools."""

    id: str
    message: Message
    token_count: int | None = None


class OpenedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What opening a turn gives. With `created` False the request id was known: this is that turn.

    `parent_id` is the message that the input follows (None in an empty conversation), `message_id` the
    assistant's draft. `input_messages` are the new rows with their `seq`. `fence` grows with each owner.
    `limits` is how its user stands since then, if that was looked at.
    """

    turn_id: str
    conversation: Conversation
    message_id: str
    parent_id: str | None
    input_messages: list[StoredMessage]
    draft_seq: int
    status: TurnStatus
    created_at: datetime
    created: bool
    fence: int = 1
    limits: LimitState | None = None
    settings: TurnSettings = TurnSettings()


class TurnRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A turn as it stands in the store, with the answer so far.

    The ends in its replay log up to `continued_after` are none: the answer was continued behind them.
    """

    id: str
    conversation_id: str
    message_id: str
    model: str
    status: TurnStatus
    created_at: datetime
    content: str
    tool_calls: list[ToolCall] | None = None
    finish_reason: FinishReason | None = None
    usage: Usage = Usage()
    error_code: str | None = None
    error_message: str | None = None
    continued_after: int = 0
    ended_at: datetime | None = None
    time_to_first_token_ms: int | None = None


class TurnCall(msgspec.Struct, frozen=True, kw_only=True):
    """An engine call of a turn. `is_last`: of its completion, no other followed. A continuation, and a
    takeover, are completions of their own."""

    call: EngineCall
    is_last: bool


class TurnDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A turn, the engine calls that were billed for it, the first first, and the cost of all there were."""

    record: TurnRecord
    calls: list[TurnCall]
    cost: int


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One append-only line of the bill: what one engine call computed for somebody, and what that cost.

    `model` is what was asked for; the call names the route that served it.
    """

    id: str
    tenant_id: str
    user_id: str
    request_id: str
    model: str
    call: EngineCall
    conversation_id: str | None = None
    turn_id: str | None = None
    api_key_id: str | None = None
