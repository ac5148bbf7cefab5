"""The turns that run, as a Protocol: what a user's device asks for when it opens."""

from typing import Protocol

from triplane.domain.conversation import Principal, TurnDetails, TurnRecord


class RunningTurns(Protocol):
    async def details(self, who: Principal, turn_id: str) -> TurnDetails:
        """One turn, and what it has cost so far. Raises NotFound, StoreUnavailable."""
        ...

    async def running(
        self, who: Principal, conversation_id: str | None, after: str | None, limit: int
    ) -> tuple[list[TurnRecord], bool]:
        """The user's turns that run, newest first, from behind the turn `after`; and whether there are more.

        With `conversation_id` only those of this conversation. `after` may have ended meanwhile; one that
        never was is NotFound. Raises StoreUnavailable.
        """
        ...
