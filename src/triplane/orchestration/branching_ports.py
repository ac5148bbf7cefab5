"""Where ended turns are read and reopened, as a Protocol."""

from typing import Protocol

import msgspec

from triplane.domain.completion import ToolCall
from triplane.domain.conversation import OpenedTurn, Principal
from triplane.domain.events import FinishReason
from triplane.orchestration.ports import HeldTurn


class AnsweredTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn with its answer so far, and `request`, which is what `NewTurn.request` was.

    `question_id` is the message that the answer follows.
    """

    opened: OpenedTurn
    model: str
    request: bytes
    question_id: str | None
    text: str
    tool_calls: list[ToolCall] | None
    finish_reason: FinishReason | None
    token_count: int | None
    log_position: int


class BranchStore(Protocol):
    async def answered(self, who: Principal, turn_id: str) -> AnsweredTurn:
        """Raises NotFound, also for another's turn."""
        ...

    async def reopen(self, held: HeldTurn, request: bytes, owner: str) -> bool:
        """Let `owner` go on with an ended answer, under the next fence, for `LEASE_S`.

        False, with nothing written, if it runs, was reopened meanwhile, or has messages below it.
        """
        ...
