"""What the gateway needs of an engine. One file beside this one implements it for each kind of engine."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from triplane.domain.completion import CompletionRequest, Message, ModelCard
from triplane.domain.embeddings import Embedded, EmbeddingRequest
from triplane.domain.errors import TriplaneError
from triplane.domain.events import EngineEvent, Usage


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine tells of its load. `kv_usage` is how much of its KV cache is in use, 0 to 1."""

    running: int
    waiting: int
    kv_usage: float | None = None


KvTransfer = dict[str, Any]
"""vLLM's `kv_transfer_params`: where a decode engine fetches the KV cache that a prefill engine has built."""


class Hints(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine may be told beside the request; one that doesn't know a hint leaves it out.

    `priority`: a lower number first. `kv_transfer`: what a prefill has given.
    """

    priority: int | None = None
    kv_transfer: KvTransfer | None = None


NO_HINTS = Hints()


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

    async def start(
        self, request: CompletionRequest, headers: Mapping[str, str], hints: Hints = NO_HINTS
    ) -> EngineStream:
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

    async def load(self) -> EngineLoad | None:
        """Its load by its own metrics; None if it has none. Raises EngineUnavailable."""
        ...

    async def close(self) -> None:
        """Give back every connection."""
        ...


@runtime_checkable
class PrefillEngine(Protocol):
    """An engine that can compute a prompt's KV cache for another one to decode from."""

    async def prefill(
        self, request: CompletionRequest, headers: Mapping[str, str], hints: Hints = NO_HINTS
    ) -> tuple[KvTransfer, Usage]:
        """Read the prompt; where its KV cache can be fetched, and what it cost. Raises as `start` does."""
        ...


@runtime_checkable
class EmbeddingEngine(Protocol):
    """An engine that can turn texts into vectors."""

    async def embed(self, request: EmbeddingRequest, headers: Mapping[str, str]) -> Embedded:
        """A vector for each input. Raises as `Engine.start` does."""
        ...
