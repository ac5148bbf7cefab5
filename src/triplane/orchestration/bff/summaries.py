"""The summary of a conversation's older part, for the user to see: it is what the model is told."""

from typing import Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from triplane.domain.errors import NotFound
from triplane.domain.ids import is_id
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.history_ports import HistoryStore


class SummaryObject(msgspec.Struct, frozen=True, kw_only=True):
    """Stands in the prompt for the active path's messages up to `upto_seq`."""

    object: Literal["conversation.summary"] = "conversation.summary"
    text: str
    upto_seq: int
    created_at: int


def summary_handlers(history: HistoryStore) -> list[HTTPRouteHandler]:
    @get(
        "/v1/conversations/{conversation_id:str}/summary",
        operation_id="retrieveSummary",
        summary="What the model is told in place of the oldest messages",
        tags=["conversations"],
        responses=documented(401, 404, 503),
    )
    async def retrieve_summary(request: StrictRequest, conversation_id: FromPath[str]) -> SummaryObject:
        if not is_id("conv", conversation_id):
            raise NotFound("There is no such conversation.")
        summary = await history.active_summary(request.principal, conversation_id)
        if summary is None:
            raise NotFound("The model is still told every message of this conversation: there is no summary.")
        return SummaryObject(
            text=summary.text, upto_seq=summary.upto_seq, created_at=int(summary.created_at.timestamp())
        )

    return [retrieve_summary]
