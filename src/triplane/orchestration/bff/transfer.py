"""`export` and `import`."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from triplane.domain.conversation import Conversation
from triplane.orchestration.announcing import Announcer, announce_conversation
from triplane.orchestration.bff.conversations import known_conversation
from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.exporting import all_conversations, as_json, as_markdown, as_zip, file_name
from triplane.orchestration.importing import Imported, import_conversations, open_file
from triplane.orchestration.transfer import TransferStore

LARGEST_FILE = 64 * 2**20

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
            return _file(parts, file_name(conversation), ".json")
        return _file(as_markdown(who, conversation, deps.conversations), file_name(conversation), ".md")

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
            return _file(as_json(who, everything, deps.conversations), "conversations", ".json")
        return _file(as_zip(who, everything, deps.conversations), "conversations", ".zip")

    return export_all


def _import(transfer: TransferStore, announcer: Announcer) -> HTTPRouteHandler:
    one_at_a_time = asyncio.Semaphore(1)

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
        async with one_at_a_time:
            opened = await asyncio.to_thread(open_file, await request.body())
            imported = await import_conversations(request.principal, opened, transfer)
        if imported.conversations:
            announce_conversation(announcer, request.principal, "conversation.created", None)
        return imported

    return import_file


async def _only(conversation: Conversation) -> AsyncIterator[Conversation]:
    yield conversation


def _file(parts: AsyncIterator[bytes], name: str, extension: str) -> Stream:
    plain = name.encode("ascii", "ignore").decode()
    headers = {
        "content-disposition": f'attachment; filename="{plain}{extension}"; '
        f"filename*=UTF-8''{quote(name + extension)}",
        "cache-control": "no-store",
    }
    return Stream(parts, headers=headers, media_type=_MEDIA[extension])
