"""`POST /v1/me/delete_data`: all that a user has written, gone."""

from typing import Literal

import msgspec
from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from triplane.orchestration.accounts.administration_ports import UserDataStore
from triplane.orchestration.accounts.data_deletion import StopTurns, delete_data
from triplane.orchestration.bff.administrators import actor_of
from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.history_ports import HotWindow


class DeleteData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    confirm: Literal["delete everything"]


class DataDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """How many of each there were."""

    object: Literal["data.deleted"] = "data.deleted"
    conversations: int = 0
    messages: int = 0
    projects: int = 0
    shares: int = 0


def my_data_handlers(store: UserDataStore, hot: HotWindow, stop: StopTurns) -> list[HTTPRouteHandler]:
    @post(
        "/v1/me/delete_data",
        operation_id="deleteMyData",
        summary="Delete all your conversations, projects, shares and instructions",
        tags=["accounts"],
        status_code=200,
        responses=documented(400, 401, 403, 413, 415, 503),
    )
    async def delete_my_data(request: StrictRequest, deps: Deps, data: JSONBody[DeleteData]) -> DataDeleted:
        """The account stays, and so does what was used. Running answers are stopped."""
        who = request.principal
        counts = await delete_data(who, store, hot, stop, deps.announcer)
        deleted = DataDeleted(
            conversations=counts.get("conversations", 0),
            messages=counts.get("messages", 0),
            projects=counts.get("projects", 0),
            shares=counts.get("shares", 0),
        )
        detail = f"{deleted.conversations} conversations, {deleted.messages} messages"
        await deps.audit.record(actor_of(request), "data.deleted", who.user_id, detail)
        return deleted

    return [delete_my_data]
