"""Exports: JSON for programs, Markdown for people. They flow, a page of messages at a time."""

import asyncio
import io
import re
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec

from triplane.domain.completion import text_of
from triplane.domain.conversation import Conversation, Principal, StoredMessage
from triplane.domain.errors import NotFound
from triplane.orchestration.conversation_ports import ConversationStore
from triplane.orchestration.transfer import FORMAT, TransferredHead, TransferredMessage, TransferStore

_MESSAGES = 200
_CONVERSATIONS = 50
_ROLES = {"user": "You", "assistant": "Assistant", "system": "System", "developer": "System", "tool": "Tool"}


async def all_conversations(who: Principal, store: TransferStore) -> AsyncIterator[Conversation]:
    last: str | None = None
    while page := await store.conversations(who, last, _CONVERSATIONS):
        for conversation in page:
            yield conversation
        last = page[-1].id


async def _pages(
    who: Principal, conversation: Conversation, store: ConversationStore, *, only_active: bool
) -> AsyncIterator[list[StoredMessage]]:
    last, more = 0, True
    while more:
        try:
            rows, more = await store.messages(who, conversation.id, last, _MESSAGES, only_active=only_active)
        except NotFound:  # deleted meanwhile: the others still come
            return
        if rows:
            last = rows[-1].seq
            yield rows


async def as_json(
    who: Principal, conversations: AsyncIterator[Conversation], store: ConversationStore
) -> AsyncIterator[bytes]:
    """One document with every branch; `importing` reads it."""
    now = msgspec.json.encode(datetime.now(UTC))
    yield b'{"object":"%s","version":1,"exported_at":%s,"conversations":[' % (FORMAT.encode(), now)
    separator = b""
    async for conversation in conversations:
        head = msgspec.json.encode(TransferredHead.of(conversation))
        yield separator + head[:-1] + b',"messages":['
        comma = b""
        async for rows in _pages(who, conversation, store, only_active=False):
            yield comma + b",".join(msgspec.json.encode(TransferredMessage.of(row)) for row in rows)
            comma = b","
        yield b"]}"
        separator = b",\n"
    yield b"]}"


async def as_markdown(
    who: Principal, conversation: Conversation, store: ConversationStore
) -> AsyncIterator[bytes]:
    """The branch that is shown, for people."""
    title = _one_line(conversation.title or "Conversation")
    yield f"# {title}\n\n{_date(conversation.created_at)}\n".encode()
    async for rows in _pages(who, conversation, store, only_active=True):
        yield "".join(_told(row) for row in rows).encode()


def _told(row: StoredMessage) -> str:
    name = _ROLES[row.role] + (f" ({row.model})" if row.model else "")
    parts = [f"\n## {_one_line(name)}, {_date(row.created_at)}\n"]
    if text := text_of(row.content):
        parts.append(f"\n{close_fences(text.rstrip())}\n")
    calls = [f"{call.function.name}({call.function.arguments})" for call in row.tool_calls or []]
    parts += [f"\n{_fenced(call)}\n" for call in calls]
    return "".join(parts)


_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def close_fences(text: str) -> str:
    """The text with a code block that it leaves open closed, so that what follows isn't taken for code."""
    fence = ""
    for line in text.splitlines():
        match = _FENCE.fullmatch(line)
        if match is None:
            continue
        marks, rest = match.groups()
        if not fence and not (marks[0] == "`" and "`" in rest):
            fence = marks
        elif fence and marks[0] == fence[0] and len(marks) >= len(fence) and not rest.strip():
            fence = ""
    return f"{text}\n{fence}" if fence else text


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _date(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def file_name(conversation: Conversation) -> str:
    """Without an extension; the end of the id keeps those of one title apart."""
    title = re.sub(r"[^\w\- ]+", "", _one_line(conversation.title or "conversation")).strip()[:60].strip()
    return f"{conversation.created_at:%Y-%m-%d} {title or 'conversation'} {conversation.id[-8:]}"


class _Growing(io.RawIOBase):
    """A file that is only written, and whose bytes are taken as they come."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._written += piece
        return len(piece)

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


async def as_zip(
    who: Principal, conversations: AsyncIterator[Conversation], store: ConversationStore
) -> AsyncIterator[bytes]:
    """A zip with a Markdown file for each."""
    growing = _Growing()
    with zipfile.ZipFile(growing, "w", zipfile.ZIP_DEFLATED) as archive:
        async for conversation in conversations:
            with archive.open(f"{file_name(conversation)}.md", "w") as file:
                async for part in as_markdown(who, conversation, store):
                    await asyncio.to_thread(file.write, part)
                    yield growing.take()
    yield growing.take()
