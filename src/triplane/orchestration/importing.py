"""Imports: a file of ours, ChatGPT's or Open WebUI's, read with suspicion, written one by one.

What is wrong with the file as a whole refuses it; what is wrong with one conversation skips that one, and
says so.
"""

import asyncio
import io
import zipfile
import zlib
from typing import Any, Literal

import msgspec

from triplane.domain.conversation import Principal
from triplane.domain.errors import BodyTooLarge, InvalidRequest
from triplane.orchestration.foreign_chats import read_chatgpt, read_open_webui
from triplane.orchestration.transfer import (
    FORMAT,
    ConversationRefused,
    TransferredConversation,
    TransferStore,
    in_order,
    is_past,
    require_bounded,
)

MOST_BYTES = 128 * 2**20
"""Of JSON, unpacked."""

MOST_CONVERSATIONS = 20_000
_REASONS = 100

Source = Literal["chatgpt", "open_webui", "triplane"]


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    title: str | None
    reason: str


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """`already` were here before. Of `skipped` the first hundred are told."""

    object: Literal["import"] = "import"
    source: Source
    conversations: int
    messages: int
    skipped: list[Skipped]
    already: int


class _Ours(msgspec.Struct, frozen=True):
    object: str = ""
    version: int = 0
    conversations: list[msgspec.Raw] | None = None


class _Look(msgspec.Struct, frozen=True):
    """Enough of a conversation to know whose it is."""

    title: Any = None
    mapping: msgspec.Raw = msgspec.Raw()
    chat: msgspec.Raw = msgspec.Raw()


class Opened(msgspec.Struct, frozen=True):
    """A file's conversations, not yet read."""

    source: Source
    conversations: list[msgspec.Raw]


def open_file(body: bytes) -> Opened:
    """Unpack the file and find its conversations. Blocks. Raises InvalidRequest, BodyTooLarge."""
    if not body:
        raise InvalidRequest("The body is empty: send the file to import.")
    documents = _unpacked(body) if body.startswith(b"PK") else [body]
    found: list[Opened] = [_opened(document) for document in documents]
    conversations = [each for opened in found for each in opened.conversations]
    if len(conversations) > MOST_CONVERSATIONS:
        raise InvalidRequest(f"The file has more than {MOST_CONVERSATIONS:,} conversations: split it.")
    if len({opened.source for opened in found}) > 1:
        raise InvalidRequest("The archive has files of more than one product: send them one by one.")
    return Opened(found[0].source, conversations)


def _unpacked(body: bytes) -> list[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = [each for each in archive.infolist() if each.filename.endswith(".json")]
            named = [each for each in members if each.filename.rpartition("/")[2].startswith("conversations")]
            chosen = named or members[:1]
            if not chosen:
                raise InvalidRequest("The archive has no conversations.json.")
            return _read(archive, chosen)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise InvalidRequest("The archive is damaged, encrypted, or of a kind that can't be read.") from error


def _read(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> list[bytes]:
    """What an archive says of its own sizes isn't believed."""
    left, found = MOST_BYTES, []
    for member in members:
        with archive.open(member) as file:
            content = file.read(left + 1)
        if len(content) > left:
            raise BodyTooLarge(f"Unpacked, the archive has more than {MOST_BYTES:,} bytes of JSON.")
        left -= len(content)
        found.append(content)
    return found


def _opened(document: bytes) -> Opened:
    start = document[:1000].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    document = document.removeprefix(b"\xef\xbb\xbf")
    try:
        if start == b"[":
            listed = msgspec.json.decode(document, type=list[msgspec.Raw])
            return Opened(_source(listed), listed)
        if start == b"{":
            ours = msgspec.json.decode(document, type=_Ours)
            if ours.object != FORMAT:
                return Opened(_source([msgspec.Raw(document)]), [msgspec.Raw(document)])
            if ours.version != 1 or ours.conversations is None:
                raise InvalidRequest("This export is of another version than 1.", param="version")
            return Opened("triplane", ours.conversations)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The file isn't an export that is known here: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The file is not valid JSON: {error}.") from None
    except RecursionError:
        raise InvalidRequest("The file is nested too deeply.") from None
    raise InvalidRequest("The file is neither JSON nor a zip archive.")


def _source(listed: list[msgspec.Raw]) -> Source:
    for raw in listed:
        look = _look(raw)
        if bytes(look.mapping):
            return "chatgpt"
        if bytes(look.chat):
            return "open_webui"
    raise InvalidRequest(
        "The file has no conversations that are known here: ChatGPT's have `mapping`, Open WebUI's `chat`."
    )


def _look(raw: msgspec.Raw) -> _Look:
    try:
        return msgspec.json.decode(raw, type=_Look)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Look()


def _title(raw: msgspec.Raw) -> str | None:
    title = _look(raw).title
    return title[:200] if isinstance(title, str) else None


def _conversation(raw: msgspec.Raw, source: Source) -> TransferredConversation:
    """Blocks. Raises ConversationRefused."""
    try:
        if source == "chatgpt":
            read = read_chatgpt(raw)
        elif source == "open_webui":
            read = read_open_webui(raw)
        else:
            read = msgspec.json.decode(raw, type=TransferredConversation)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConversationRefused(f"{error}.") from None
    except RecursionError:
        raise ConversationRefused("It is nested too deeply.") from None
    require_bounded(len(read.messages))
    if not read.messages:
        raise ConversationRefused("It has no message with text.")
    if not in_order(read.messages):
        raise ConversationRefused("A message of it comes before its parent, or twice.")
    times = [read.created_at, read.updated_at, *(message.created_at for message in read.messages)]
    if any(time.tzinfo is None for time in times):
        raise ConversationRefused("A time of it has no time zone.")
    if not all(map(is_past, times)):
        raise ConversationRefused("A time of it is before 1970, or still to come.")
    title = (read.title or "").replace("\0", "").strip()[:200] or None
    return msgspec.structs.replace(read, title=title)


async def import_conversations(who: Principal, opened: Opened, store: TransferStore) -> Imported:
    """Write what isn't here yet."""
    written = messages = already = 0
    skipped: list[Skipped] = []
    for raw in opened.conversations:
        try:
            conversation = await asyncio.to_thread(_conversation, raw, opened.source)
            if await store.add(who, opened.source, conversation):
                written += 1
                messages += len(conversation.messages)
            else:
                already += 1
        except (ConversationRefused, InvalidRequest) as refused:
            if len(skipped) < _REASONS:
                title = await asyncio.to_thread(_title, raw)
                skipped.append(Skipped(title=title, reason=str(refused)))
    return Imported(
        source=opened.source,
        conversations=written,
        messages=messages,
        skipped=skipped,
        already=already,
    )
