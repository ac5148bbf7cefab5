"""What a turn needs of the outside world, as Protocols. `main` passes the real parts in.

Errors: every method may raise `StoreUnavailable` (stores) or a `DependencyFailed` (gateway); what else
it raises stands in its docstring. A conversation or turn of another tenant or user is `NotFound`.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

import msgspec

from triplane.domain.completion import CompletionRequest, Message, ModelCard, ToolCall
from triplane.domain.conversation import (
    NewMessage,
    OpenedTurn,
    Principal,
    TurnRecord,
    UsageEvent,
)
from triplane.domain.events import EngineEvent, FinishReason, LogEntry, TurnError, TurnStatus, Usage
from triplane.domain.money import CallsMade, EngineCall, usage_of


class Completion(Protocol):
    """A completion that runs: iterate it for its events, close it to stop the engine's work at once.

    Close it in every case (`contextlib.aclosing`); closing twice is harmless. `calls` are
    those to engines so far, `usage` is the answer's, which may come from a cache. Both may be read at any
    time, and are whole after the end or the close.
    """

    @property
    def calls(self) -> Sequence[EngineCall]: ...

    @property
    def usage(self) -> Usage: ...

    def __aiter__(self) -> AsyncIterator[EngineEvent]: ...

    async def take_events(self) -> list[EngineEvent]:
        """What one read of the engine brought, together; empty behind the end."""
        ...

    async def aclose(self) -> None: ...


class Gateway(Protocol):
    async def complete(self, request: CompletionRequest, made: CallsMade | None = None) -> Completion:
        """Route the request to an engine; returns when the engine has taken it (`Started` comes first).

        Raises ModelNotFound, ContextTooLong, InvalidRequest, Overloaded, EngineUnavailable; `made` has what
        was computed then, or before a cancellation. What fails after the first event arrives as `Failed`.
        """
        ...

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> list[int]:
        """The tokens of each message within the model's chat template, by the engine's own tokenizer."""
        ...

    async def models(self) -> list[ModelCard]: ...

    async def model(self, model_id: str) -> ModelCard:
        """Raises ModelNotFound."""
        ...


LEASE_S = 5.0
"""How long an owner holds a turn without a word; it renews about once a second."""


class NewTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What opening a turn writes. `request_id` dedupes per user; `body_sha256` tells a reused id apart.

    `parent_id` is the message that the new ones answer, None the conversation's beginning; unset takes the
    active leaf. `expected_parent`, if set, is what the active leaf has to be. Without messages the parent, a
    question, is answered again. `request`
    is all that another owner needs to take the turn over, opaque to the store; None if it can't be.
    """

    turn_id: str
    request_id: str
    body_sha256: bytes
    conversation_id: str
    model: str
    messages: list[NewMessage]
    draft_id: str
    parent_id: str | msgspec.UnsetType | None = msgspec.UNSET
    expected_parent: str | msgspec.UnsetType | None = msgspec.UNSET
    provisional_title: str | None = None
    request: bytes | None = None
    lease_owner: str | None = None


class HeldTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn and which of its owners speaks: one with a lower `fence` than the newest is refused."""

    tenant_id: str
    turn_id: str
    fence: int


Renewal = Literal["held", "stop", "lost"]
"""Go on; the user wants it stopped; or another owner has the turn, or it has ended."""


class LapsedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn whose owner is gone, now ours: `opened.fence` is the new one.

    `request` is what `NewTurn.request` was; `content` and `log_position` are of the last checkpoint.
    """

    request: bytes
    opened: OpenedTurn
    content: str
    log_position: int
    stop_requested: bool


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Work for the job worker. While one with this key waits or runs, another isn't enqueued."""

    entrypoint: str
    payload: bytes
    dedupe_key: str


class TurnResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a turn ended: its assistant row, its state and its bill, written together.

    `jobs` are enqueued in the same transaction. `earlier_usage` is what earlier owners' attempts computed,
    which have usage events of their own. The window is what the prompt held of the history: the messages
    from `window_from_seq` on, and the summary, named by its `from_message_id`; None if there was no prompt.
    """

    turn_id: str
    fence: int = 1
    conversation_id: str
    message_id: str
    status: TurnStatus
    content: str
    log_position: int = 0
    tool_calls: list[ToolCall] | None
    finish_reason: FinishReason | None
    token_count: int | None
    usage_events: list[UsageEvent]
    earlier_usage: Usage = Usage()
    error: TurnError | None = None
    window_from_seq: int | None = None
    window_summary: str | None = None
    jobs: list[Job] = []
    time_to_first_token_ms: int | None = None

    @property
    def usage(self) -> Usage:
        """What this owner's attempt has computed."""
        return usage_of(event.call for event in self.usage_events)


class TurnStore(Protocol):
    async def open(self, who: Principal, new: NewTurn) -> OpenedTurn:
        """Write turn, input rows and draft, or find the turn of a known request id: one round trip.

        Raises NotFound (conversation, or `parent_id` not in it), IdempotencyKeyReused (other body), Conflict
        (`expected_parent` isn't the active leaf, or `parent_id` is still being written).
        """
        ...

    async def known(
        self, who: Principal, request_id: str, body_sha256: bytes, conversation_id: str
    ) -> OpenedTurn | None:
        """The turn of a known request id, as `open` gives it. Raises IdempotencyKeyReused (other body)."""
        ...

    async def renew(self, held: HeldTurn, text: str, position: int) -> Renewal:
        """Hold the turn for another `LEASE_S`, and save the draft's text up to this log position."""
        ...

    async def release(self, held: HeldTurn, text: str, position: int) -> None:
        """Save the draft's text and let any other owner take the turn at once."""
        ...

    async def request_stop(self, who: Principal, turn_id: str) -> None:
        """Have the owner, wherever it is, stop the turn at its next renewal. Raises NotFound."""
        ...

    async def claim_lapsed(self, owner: str, limit: int) -> list[LapsedTurn]:
        """Become the owner of turns, of any tenant, whose leases have run out; the longest first."""
        ...

    async def finish(self, who: Principal, result: TurnResult) -> bool:
        """End the turn: one round trip. False, with nothing written, if it had ended or has a newer owner."""
        ...

    async def get(self, who: Principal, turn_id: str) -> TurnRecord: ...


class LoggedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One owner's attempt as the log knows it: its last entry's position, and its engine calls by then."""

    fence: int
    position: int
    calls: list[EngineCall]


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What a log holds when it is taken over: its entries, and the attempts that wrote them.

    Without `is_read` its store couldn't be asked, and may hold whatever it likes.
    """

    entries: list[LogEntry]
    attempts: list[LoggedAttempt]
    is_read: bool = True

    @property
    def usage(self) -> Usage:
        return usage_of(call for attempt in self.attempts for call in attempt.calls)


class ReplayLog(Protocol):
    """Each turn's events in order, kept for a while after its end. Positions count from 1.

    With the log's own store away, whoever follows in the owner's process misses nothing.
    """

    def open(self, tenant_id: str, turn_id: str) -> None:
        """Begin the log of a turn that this process runs."""
        ...

    def close(self, tenant_id: str, turn_id: str) -> None:
        """The turn runs here no longer: release its followers."""
        ...

    async def append(self, held: HeldTurn, entries: Sequence[LogEntry], calls: Sequence[EngineCall]) -> bool:
        """Store the entries, then hand them to the followers; `calls` are the attempt's so far.

        False, with nothing stored or handed on, if the turn has a newer owner. Raises StoreUnavailable, with
        nothing handed on.
        """
        ...

    def show(self, held: HeldTurn, entries: Sequence[LogEntry]) -> None:
        """Hand on what couldn't be stored, to followers here; it is stored with the next append."""
        ...

    async def take_over(self, held: HeldTurn) -> Recovered:
        """Shut out earlier owners, and read what they have written."""
        ...

    async def rewrite(self, held: HeldTurn, entries: Sequence[LogEntry]) -> bool:
        """As `append`, but in place of all that the log holds, once its store can be reached.

        Who has read the old log meets a gap in the positions behind it.
        """
        ...

    def follow(self, tenant_id: str, turn_id: str, after: int) -> AsyncIterator[LogEntry]:
        """Every entry behind position `after`, those to come included; ends after `TurnEnded`.

        Ends without it when nothing has come for a while: the log may be gone, and the turn's row knows.
        """
        ...


class UsageStore(Protocol):
    async def record(self, events: Sequence[UsageEvent]) -> None:
        """Append usage events, in one statement; the same id twice is one event."""
        ...

    async def record_attempt(self, events: Sequence[UsageEvent]) -> None:
        """Append the events of an attempt whose turn another owner has, or will have, taken over.

        That owner bills, under the same ids, what the log has told it. If it was first, what an event has
        beyond that becomes an event of its own.
        """
        ...


class TurnObserver(Protocol):
    """Whoever counts what turns do."""

    def turn_ended(self, status: TurnStatus) -> None: ...

    def hot_window_read(self, *, hit: bool) -> None: ...


class NobodyCounts:
    """The observer of turns that nobody counts."""

    def turn_ended(self, status: TurnStatus) -> None:
        pass

    def hot_window_read(self, *, hit: bool) -> None:
        pass
