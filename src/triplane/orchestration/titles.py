"""Titles of conversations: at once from the user's words, a little later from the model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from triplane.domain.completion import CompletionRequest, Message, Sampling, text_of
from triplane.domain.conversation import Principal
from triplane.domain.errors import NotFound
from triplane.domain.events import Delta, Finished
from triplane.domain.ids import new_id
from triplane.orchestration.announcing import Announcer, NobodyListens, announce_conversation
from triplane.orchestration.conversation_ports import ConversationStore
from triplane.orchestration.ports import Gateway, UsageStore
from triplane.orchestration.whole_answers import billed_answer

_log = structlog.get_logger(__name__)

MAX_TITLE_CHARACTERS = 60
_MAX_TITLE_WORDS = 8
_EXCERPT_CHARACTERS = 600
"""Of each message, what the model is shown: a title needs the gist, and a short prompt is quick."""


class TitleJob(msgspec.Struct, frozen=True, kw_only=True):
    tenant_id: str
    user_id: str
    conversation_id: str
    model: str


@dataclass(frozen=True, kw_only=True)
class TitleDeps:
    conversations: ConversationStore
    gateway: Gateway
    usage: UsageStore
    announcer: Announcer = field(default_factory=NobodyListens)


def provisional_title(message: Message) -> str | None:
    """The beginning of the user's text, cut at a word; None if there is no text."""
    words = re.sub(r"\s+", " ", text_of(message.content)).strip()
    if len(words) <= MAX_TITLE_CHARACTERS:
        return words or None
    cut = words[:MAX_TITLE_CHARACTERS]
    return (cut[: cut.rfind(" ")] if " " in cut else cut) + "…"


_INSTRUCTION = "Write a title of two to six words for this text. Answer with the title alone."
_EXAMPLES = [
    Message(role="user", content="how do i get red wine out of a white shirt?"),
    Message(role="assistant", content="Removing red wine stains"),
    Message(role="user", content="Write a Python function that sorts a list of dates"),
    Message(role="assistant", content="Sorting dates in Python"),
]


async def generate_title(job: TitleJob, deps: TitleDeps) -> None:
    """Ask the model for a title and set it, unless it is no title or a person named the conversation."""
    who = Principal(tenant_id=job.tenant_id, user_id=job.user_id)
    try:
        rows, _ = await deps.conversations.messages(who, job.conversation_id, 0, 2)
    except NotFound:
        return  # deleted meanwhile
    asked = next((text_of(row.content) for row in rows if row.role == "user"), "")[:_EXCERPT_CHARACTERS]
    request = _request(job, asked)
    answer = await billed_answer(who, request, job.conversation_id, deps.gateway, deps.usage)
    title = as_title([event for event in answer if isinstance(event, Delta | Finished)], asked)
    if title and await deps.conversations.set_generated_title(job.tenant_id, job.conversation_id, title):
        announce_conversation(deps.announcer, who, "conversation.updated", job.conversation_id, title)
    _log.info("title generated", conversation_id=job.conversation_id, accepted=title is not None)


def _request(job: TitleJob, asked: str) -> CompletionRequest:
    return CompletionRequest(
        request_id=new_id("req"),
        model=job.model,
        messages=[
            Message(role="system", content=_INSTRUCTION),
            *_EXAMPLES,
            Message(role="user", content=asked),
        ],
        sampling=Sampling(max_tokens=24, temperature=0.0, stop=["\n"]),
        cache_salt=job.tenant_id,
    )


def as_title(answer: Sequence[Delta | Finished], asked: str) -> str | None:
    """The model's answer as a title, or None if it is cut off, too long, or not about what was asked.

    Small models often answer the text instead of naming it; the provisional title is better than that.
    """
    if not any(isinstance(event, Finished) and event.reason == "stop" for event in answer):
        return None
    text = "".join(event.text for event in answer if isinstance(event, Delta))
    title = text.strip().strip("\"'`*#").removeprefix("Title:").strip().rstrip(".")
    if not 3 <= len(title) <= MAX_TITLE_CHARACTERS or len(title.split()) > _MAX_TITLE_WORDS:
        return None
    return title if _stems(title) & _stems(asked) else None


def _stems(text: str) -> set[str]:
    """The beginnings of the longer words: enough to tell whether two texts share a topic."""
    return {word[:5] for word in re.findall(r"\w{4,}", text.lower())}
