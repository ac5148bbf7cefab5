"""`export` and `import`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from triplane.domain.conversation import Conversation, Principal
from triplane.domain.errors import Overloaded, Unauthenticated
from triplane.orchestration.announcing import Announcer, announce_conversation
from triplane.orchestration.bff.connection import ClientGone, unless_gone
from triplane.orchestration.bff.conversations import known_conversation
from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.bff.scope import while_allowed
from triplane.orchestration.exporting import all_conversations, as_json, as_markdown, as_zip, file_name
from triplane.orchestration.importing import Imported, import_conversations, open_file
from triplane.orchestration.transfer import TransferStore

LARGEST_FILE = 64 * 2**20
MOST_UPLOADS = 4
_AGAIN_S = 5.0

Format = Literal["markdown", "json"]
_MEDIA = {".md": "text/markdown", ".json": "application/json", ".zip": "application/zip"}


@dataclass
class _OneFile(Operation):
    """The description of a route whose answer is a file of one of two kinds."""

    def __post_init__(self) -> None:
        _describe_files(self, (_MEDIA[".md"], _MEDIA[".json"]))


@dataclass
class _AllFiles(Operation):
    def __post_init__(self) -> None:
        _describe_files(self, (_MEDIA[".json"], _MEDIA[".zip"]))


def _describe_files(operation: Operation, media_types: tuple[str, ...]) -> None:
    answer = (operation.responses or {}).get("200")
    if isinstance(answer, OpenAPIResponse):
        answer.content = {media_type: OpenAPIMediaType() for media_type in media_types}


def transfer_handlers(transfer: TransferStore, announcer: Announcer) -> list[HTTPRouteHandler]:
    return [_export_one(), _export_all(transfer), _import(transfer, announcer)]


def _export_one() -> HTTPRouteHandler:
    @get(
        "/v1/conversations/{conversation_id:str}/export",
        operation_id="exportConversation",
        tags=["conversations"],
        summary="A conversation as a file: the branch that is shown as Markdown, or all of it as JSON",
        operation_class=_OneFile,
        responses=documented(400, 401, 404),
    )
    async def export_conversation(
        request: StrictRequest,
        deps: Deps,
        conversation_id: FromPath[str],
        format: FromQuery[Format] = "markdown",
    ) -> Stream:
        who = request.principal
        conversation = await deps.conversations.get(who, known_conversation(conversation_id))
        if format == "json":
            parts = as_json(who, _only(conversation), deps.conversations)
            return _file(request, parts, file_name(conversation), ".json")
        return _file(
            request, as_markdown(who, conversation, deps.conversations), file_name(conversation), ".md"
        )

    return export_conversation


def _export_all(transfer: TransferStore) -> HTTPRouteHandler:
    @get(
        "/v1/export",
        operation_id="exportAll",
        tags=["conversations"],
        summary="All conversations: one JSON document, or a zip with a Markdown file for each",
        operation_class=_AllFiles,
        responses=documented(400, 401),
    )
    async def export_all(request: StrictRequest, deps: Deps, format: FromQuery[Format] = "json") -> Stream:
        who = request.principal
        everything = all_conversations(who, transfer)
        if format == "json":
            return _file(request, as_json(who, everything, deps.conversations), "conversations", ".json")
        return _file(request, as_zip(who, everything, deps.conversations), "conversations", ".zip")

    return export_all


def _import(transfer: TransferStore, announcer: Announcer) -> HTTPRouteHandler:
    turnstile = _Turnstile()

    @post(
        "/v1/import",
        operation_id="importConversations",
        tags=["conversations"],
        summary="Take conversations over from a file of ChatGPT, Open WebUI or Triplane",
        status_code=200,
        request_max_body_size=LARGEST_FILE,
        responses=documented(400, 401, 403, 413, 503),
    )
    async def import_file(request: StrictRequest) -> Imported:
        """The body is the file itself, JSON or zip. What is here already isn't imported again."""

        def tell() -> None:
            announce_conversation(announcer, request.principal, "conversation.created", None)

        with turnstile.uploading():
            body = await request.body()
            with turnstile.importing():
                try:
                    imported = await unless_gone(request, _imported(request.principal, body, transfer))
                except (ClientGone, Unauthenticated):
                    tell()  # what was written by then stays
                    raise
        if imported.conversations:
            tell()
        return imported

    return import_file


async def _imported(who: Principal, body: bytes, transfer: TransferStore) -> Imported:
    return await import_conversations(who, await asyncio.to_thread(open_file, body), transfer)


class _Turnstile:
    """One import at a time: a file is unpacked in memory. Whoever comes meanwhile is told so at once.

    A slow upload keeps nobody from importing; but only so many are held in memory.
    """

    def __init__(self) -> None:
        self._uploads = 0
        self._is_importing = False

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """Raises Overloaded."""
        if self._is_importing or self._uploads == MOST_UPLOADS:
            raise _busy()
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Raises Overloaded."""
        if self._is_importing:
            raise _busy()
        self._is_importing = True
        try:
            yield
        finally:
            self._is_importing = False


def _busy() -> Overloaded:
    return Overloaded("Another file is being imported right now. Try again shortly.", retry_after_s=_AGAIN_S)


async def _only(conversation: Conversation) -> AsyncIterator[Conversation]:
    yield conversation


async def _while_allowed(request: StrictRequest, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The parts; broken off when the reader's access ends, so that nobody takes the file for whole."""
    with while_allowed(request.scope) as ended:
        async for part in parts:
            if ended is not None and ended.done():
                raise Unauthenticated("Your access has ended.")
            yield part


def _file(request: StrictRequest, parts: AsyncIterator[bytes], name: str, extension: str) -> Stream:
    plain = name.encode("ascii", "ignore").decode()
    headers = {
        "content-disposition": f'attachment; filename="{plain}{extension}"; '
        f"filename*=UTF-8''{quote(name + extension)}",
        "cache-control": "no-store",
    }
    return Stream(_while_allowed(request, parts), headers=headers, media_type=_MEDIA[extension])
