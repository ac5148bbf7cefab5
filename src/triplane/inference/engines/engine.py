"""What the gateway needs of an engine. One file beside this one implements it for each kind of engine."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from triplane.domain.completion import CompletionRequest, Message, ModelCard
from triplane.domain.errors import TriplaneError
from triplane.domain.events import EngineEvent, Usage


class EngineStream(Protocol):
    """An answer on its way. Always closed in the end, by `aclose` or `abort`."""

    @property
    def model(self) -> str:
        """The id that the engine reports for its model."""
        ...

    @property
    def usage(self) -> Usage:
        """What the engine has computed so far, exact where the engine tells."""
        ...

    async def read(self) -> list[EngineEvent] | None:
        """The next events (Delta, ToolCallDelta, Finished), in order; None behind the last.

        An empty list means that the engine is alive but has nothing to show yet. Raises TriplaneError.
        """
        ...

    def abort(self, error: TriplaneError) -> None:
        """Stop the engine's work now; a read that waits raises `error`. May be called from a timer."""
        ...

    async def aclose(self) -> None:
        """Stop the engine's work if it isn't finished, and give the connection back. Twice is harmless."""
        ...


class Engine(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def card(self) -> ModelCard: ...

    async def start(self, request: CompletionRequest, headers: Mapping[str, str]) -> EngineStream:
        """Send the request; returns when the engine has taken it. `headers` carry the trace.

        Raises ModelNotFound, ContextTooLong, InvalidRequest, Overloaded, DependencyFailed.
        """
        ...

    async def count_tokens(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of each message, its role markers included."""
        ...

    async def check(self) -> None:
        """Whether the engine can serve now. Raises EngineUnavailable."""
        ...

    async def close(self) -> None:
        """Give back every connection."""
        ...
