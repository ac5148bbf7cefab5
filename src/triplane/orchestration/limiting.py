"""What limits a request before it begins, as Protocols: reserve, then settle or refund, once."""

from types import TracebackType
from typing import Protocol, Self

from triplane.domain.completion import Flow
from triplane.domain.events import Usage
from triplane.domain.limits import LimitState


class Reservation(Protocol):
    """What a request has taken of its limits. As a context manager it refunds unless it was settled."""

    @property
    def limits(self) -> LimitState: ...

    def settle(self, usage: Usage) -> None:
        """The request is over and has cost so much. Never fails and never waits."""
        ...

    def refund(self) -> None:
        """Nothing was computed: all goes back. Never fails and never waits."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class RateLimits(Protocol):
    async def reserve(self, flow: Flow, model: str, tokens: int) -> Reservation:
        """Take one request, a slot, and the tokens that it may need. Raises RateLimited, OverLimit."""
        ...


class NothingTaken:
    """The reservation of what nobody limits."""

    limits = LimitState()

    def settle(self, usage: Usage) -> None:
        pass

    def refund(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


NOTHING_TAKEN = NothingTaken()


class Unlimited:
    """Limits nobody."""

    async def reserve(self, flow: Flow, model: str, tokens: int) -> Reservation:
        return NOTHING_TAKEN
