"""The seam to the limits: what a request takes before it runs, and gives back after."""

from collections.abc import Iterable
from typing import Protocol

from triplane.domain.completion import CompletionRequest
from triplane.domain.events import Usage


class Reserved(Protocol):
    """What one request has taken; the first of `settle` and `refund` counts."""

    @property
    def headers(self) -> Iterable[tuple[str, str]]:
        """The `x-ratelimit-…` headers of its answer."""
        ...

    def settle(self, usage: Usage) -> None: ...

    def refund(self) -> None: ...


class Limits(Protocol):
    async def reserve(self, request: CompletionRequest) -> Reserved:
        """Raises RateLimited, with nothing taken."""
        ...


class Unlimited:
    """No limits at all."""

    headers: Iterable[tuple[str, str]] = ()

    async def reserve(self, request: CompletionRequest) -> "Unlimited":
        return self

    def settle(self, usage: Usage) -> None:
        pass

    def refund(self) -> None:
        pass
