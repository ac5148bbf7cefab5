"""What the HTTP API says, as far as the terminal reads it."""

from typing import Any

import msgspec

from triplane.experience.api_client import ErrorDetail


class TokenDetails(msgspec.Struct):
    cached_tokens: int = 0


class Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: TokenDetails | None = None


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta = msgspec.field(default_factory=Delta)
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    choices: list[Choice] = []
    model: str | None = None
    turn_id: str | None = None
    usage: Usage | None = None
    error: ErrorDetail | None = None


class Named(msgspec.Struct):
    id: str


class Names(msgspec.Struct):
    data: list[Named] = []


class ConversationLine(msgspec.Struct):
    """A conversation in a list. `updated_at`: Unix seconds."""

    id: str
    title: str | None
    updated_at: int


class ConversationPage(msgspec.Struct):
    data: list[ConversationLine]


class Message(msgspec.Struct):
    """A message of the conversation. `content`: a text, or parts of which some are text."""

    id: str
    seq: int
    role: str
    status: str
    content: str | list[dict[str, Any]] | None = None
    parent_id: str | None = None
    turn_id: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class MessagePage(msgspec.Struct):
    data: list[Message]
    has_more: bool = False


class Segment(msgspec.Struct):
    """A piece of a found text; `hit`: it is what was searched for."""

    text: str
    hit: bool


class Hit(msgspec.Struct):
    """What a search found, in a title or in a message."""

    conversation_id: str
    title: list[Segment]
    snippet: list[Segment]
    updated_at: int
    message_id: str | None = None


class HitPage(msgspec.Struct):
    data: list[Hit]


class Outcome(msgspec.Struct):
    """How the last answer ended, for scripts."""

    conversation_id: str | None = None
    turn_id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
