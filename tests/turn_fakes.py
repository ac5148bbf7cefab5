"""In-memory stand-ins for what a turn needs, for tests of the turn's own logic. Small, and without I/O."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from gateways import engine_call
from triplane.domain.completion import CompletionRequest, Message, ModelCard, text_of
from triplane.domain.conversation import (
    Conversation,
    OpenedTurn,
    Principal,
    StoredMessage,
    Summary,
    TurnRecord,
    UsageEvent,
)
from triplane.domain.embeddings import EmbeddingRequest, Vector, vector_of
from triplane.domain.errors import ModelNotFound, NotFound
from triplane.domain.events import EngineEvent, Finished, LogEntry, TurnEnded, Usage
from triplane.domain.ids import new_id
from triplane.domain.money import CallsMade, EngineCall
from triplane.orchestration.history_ports import Unsummarised, Window
from triplane.orchestration.ports import (
    HeldTurn,
    LapsedTurn,
    LoggedAttempt,
    NewTurn,
    Recovered,
    Renewal,
    TurnResult,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
WHO = Principal(tenant_id=new_id("tenant"), user_id=new_id("user"))


class ScriptedCompletion:
    """Plays its events; `waits` are awaited before the event of the same index."""

    def __init__(self, events: Sequence[EngineEvent], waits: dict[int, asyncio.Event]) -> None:
        self._events = events
        self._waits = waits
        self.usage = Usage()
        self.closed = asyncio.Event()
        self._playing: AsyncIterator[EngineEvent] | None = None

    @property
    def calls(self) -> list[EngineCall]:
        return [engine_call(self.usage)]

    async def __aiter__(self) -> AsyncIterator[EngineEvent]:
        for index, event in enumerate(self._events):
            if index in self._waits:
                await self._waits[index].wait()
            if isinstance(event, Finished):
                self.usage = event.usage
            yield event

    async def take_events(self) -> list[EngineEvent]:
        if self._playing is None:
            self._playing = aiter(self)
        return [event async for event in _first(self._playing)]

    async def aclose(self) -> None:
        self.closed.set()


async def _first(events: AsyncIterator[EngineEvent]) -> AsyncIterator[EngineEvent]:
    with suppress(StopAsyncIteration):
        yield await anext(events)


class ScriptedEmbedding:
    """Every text has the same vector, and is one token."""

    def __init__(self, request: EmbeddingRequest) -> None:
        self._request = request
        self.usage = Usage(prompt_tokens=len(request.inputs))

    @property
    def calls(self) -> list[EngineCall]:
        return [engine_call(self.usage)]

    async def vectors(self) -> list[Vector]:
        if self._request.model != "model":
            raise ModelNotFound("There is no such model.", param="model")
        return [vector_of([0.5, 1.0]) for _ in self._request.inputs]

    async def aclose(self) -> None:
        pass


class ScriptedGateway:
    """One model, `model`; counts a token for each word and two for the template."""

    def __init__(self, events: Sequence[EngineEvent] = (), context_length: int = 1000) -> None:
        self.card = ModelCard(
            id="model", context_length=context_length, owned_by="test", supports_continuation=True
        )
        self.events = events
        self.waits: dict[int, asyncio.Event] = {}
        self.refusal: Exception | None = None
        self.uncounted: Exception | None = None
        self.refused_calls: list[EngineCall] = []
        self.requests: list[CompletionRequest] = []
        self.completions: list[ScriptedCompletion] = []
        self.called = asyncio.Event()
        self.arrivals = asyncio.Semaphore(0)
        """Released by each request."""

    async def complete(self, request: CompletionRequest, made: CallsMade | None = None) -> ScriptedCompletion:
        self.requests.append(request)
        self.arrivals.release()
        if self.refusal:
            if made is not None:
                made.calls = self.refused_calls
            raise self.refusal
        completion = ScriptedCompletion(self.events, self.waits)
        self.completions.append(completion)
        self.called.set()
        return completion

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> list[int]:
        if self.uncounted:
            raise self.uncounted
        return [len(text_of(message.content).split()) + 2 for message in messages]

    def embed(self, request: EmbeddingRequest) -> "ScriptedEmbedding":
        return ScriptedEmbedding(request)

    async def models(self) -> list[ModelCard]:
        return [self.card]

    async def model(self, model_id: str) -> ModelCard:
        if model_id != self.card.id:
            raise ModelNotFound("There is no such model.", param="model")
        return self.card


class MemoryTurns:
    """A `TurnStore` of one conversation whose turns come one after the other."""

    def __init__(self) -> None:
        self.conversation = Conversation(
            id=new_id("conv"), title=None, created_at=NOW, updated_at=NOW, last_seq=0
        )
        self.rows: list[StoredMessage] = []
        self.results: list[TurnResult] = []
        self.opened: dict[str, OpenedTurn] = {}
        self.renewals: list[str] = []
        self.renewal: Renewal = "held"
        self.released: list[str] = []
        self.requests: list[bytes] = []
        self.lapsed: list[LapsedTurn] = []
        self.finish_failures: list[Exception] = []

    async def open(self, who: Principal, new: NewTurn) -> OpenedTurn:
        self.requests.append(new.request or b"")
        if new.request_id in self.opened:
            known = self.opened[new.request_id]
            return msgspec.structs.replace(known, created=False)
        parent = self.rows[-1].id if self.rows else None
        above = parent
        inputs: list[StoredMessage] = []
        for item in new.messages:
            inputs.append(
                StoredMessage(
                    id=item.id,
                    seq=len(self.rows) + len(inputs) + 1,
                    role=item.message.role,
                    content=item.message.content,
                    status="complete",
                    created_at=NOW,
                    parent_id=above,
                    turn_id=new.turn_id,
                    token_count=item.token_count,
                )
            )
            above = item.id
        self.rows += inputs
        draft_seq = len(self.rows) + 1
        opened = OpenedTurn(
            turn_id=new.turn_id,
            conversation=self.conversation,
            message_id=new.draft_id,
            parent_id=parent,
            input_messages=inputs,
            draft_seq=draft_seq,
            status="streaming",
            created_at=NOW,
            created=True,
        )
        self.opened[new.request_id] = opened
        return opened

    async def known(
        self, who: Principal, request_id: str, body_sha256: bytes, conversation_id: str
    ) -> OpenedTurn | None:
        known = self.opened.get(request_id)
        return msgspec.structs.replace(known, created=False) if known else None

    async def renew(self, held: HeldTurn, text: str, position: int) -> Renewal:
        self.renewals.append(text)
        return self.renewal

    async def release(self, held: HeldTurn, text: str, position: int) -> None:
        self.released.append(text)

    async def request_stop(self, who: Principal, turn_id: str) -> None:
        await self.get(who, turn_id)

    async def claim_lapsed(self, owner: str, limit: int) -> list[LapsedTurn]:
        lapsed, self.lapsed = self.lapsed[:limit], self.lapsed[limit:]
        return lapsed

    async def finish(self, who: Principal, result: TurnResult) -> bool:
        if self.finish_failures:
            raise self.finish_failures.pop(0)
        self.results.append(result)
        self.rows.append(
            StoredMessage(
                id=result.message_id,
                seq=len(self.rows) + 1,
                role="assistant",
                content=result.content,
                status=result.status,
                created_at=NOW,
                parent_id=self.rows[-1].id,
                turn_id=result.turn_id,
                token_count=result.token_count,
            )
        )
        return True

    async def get(self, who: Principal, turn_id: str) -> TurnRecord:
        for opened in self.opened.values():
            if opened.turn_id == turn_id and who == WHO:
                result = next((row for row in self.results if row.turn_id == turn_id), None)
                return TurnRecord(
                    id=turn_id,
                    conversation_id=self.conversation.id,
                    message_id=opened.message_id,
                    model="model",
                    status=result.status if result else "streaming",
                    created_at=NOW,
                    content=result.content if result else "",
                    finish_reason=result.finish_reason if result else None,
                )
        raise NotFound("There is no such turn.")


class MemoryHistory:
    """A `HistoryStore` beside the one conversation of `turns`, without branches."""

    def __init__(self, turns: MemoryTurns) -> None:
        self._turns = turns
        self.windows_read = 0
        self.summaries: list[Summary] = []

    async def window(self, who: Principal, conversation_id: str, leaf_id: str) -> Window:
        self.windows_read += 1
        wrote = next((row for row in self._turns.results if row.message_id == leaf_id), None)
        first = (wrote.window_from_seq if wrote else None) or 1
        rows = [row for row in self._turns.rows if row.seq >= first]
        leaf = next(place for place, row in enumerate(rows) if row.id == leaf_id)
        summary = next(
            (each for each in self.summaries if wrote and each.from_message_id == wrote.window_summary), None
        )
        return Window(leaf_id=leaf_id, messages=rows[: leaf + 1], summary=summary)

    async def newest_summary(
        self, who: Principal, conversation_id: str, message_ids: Sequence[str]
    ) -> Summary | None:
        found = [each for each in self.summaries if each.from_message_id in message_ids]
        return max(found, key=lambda each: each.upto_seq, default=None)

    async def active_summary(self, who: Principal, conversation_id: str) -> Summary | None:
        told = self._turns.results[-1].window_summary if self._turns.results else None
        return next((each for each in self.summaries if each.from_message_id == told), None)

    async def unsummarised(
        self, who: Principal, conversation_id: str, before_id: str, limit: int
    ) -> Unsummarised:
        above: list[StoredMessage] = []
        for row in self._turns.rows:
            if row.id == before_id:
                break
            above.append(row)
        known = await self.newest_summary(WHO, conversation_id, [row.id for row in above])
        covered = known.upto_seq if known else 0
        return Unsummarised(previous=known, messages=[row for row in above if row.seq > covered][-limit:])

    async def add_summary(self, who: Principal, conversation_id: str, summary: Summary) -> None:
        if not await self.newest_summary(who, conversation_id, [summary.from_message_id]):
            self.summaries.append(summary)


class MemoryWindow:
    """A `HotWindow`; emptied by `lose`."""

    def __init__(self) -> None:
        self.window: Window | None = None

    async def get(self, tenant_id: str, conversation_id: str) -> Window | None:
        return self.window

    def put(self, tenant_id: str, conversation_id: str, window: Window) -> None:
        self.window = window

    async def drop(self, tenant_id: str, conversation_id: str) -> None:
        self.window = None


class MemoryLog:
    """A `ReplayLog` of this process."""

    def __init__(self) -> None:
        self.entries: dict[str, list[LogEntry]] = {}
        self.fence = 0
        self.attempts: list[LoggedAttempt] = []
        self._grown = asyncio.Condition()

    def open(self, tenant_id: str, turn_id: str) -> None:
        self.entries.setdefault(turn_id, [])

    def close(self, tenant_id: str, turn_id: str) -> None:
        pass

    async def append(self, held: HeldTurn, entries: Sequence[LogEntry], calls: Sequence[EngineCall]) -> bool:
        if held.fence < self.fence:
            return False
        mine = LoggedAttempt(fence=held.fence, position=entries[-1].position, calls=list(calls))
        self.attempts = [*(each for each in self.attempts if each.fence != held.fence), mine]
        async with self._grown:
            self.entries[held.turn_id].extend(entries)
            self._grown.notify_all()
        return True

    def show(self, held: HeldTurn, entries: Sequence[LogEntry]) -> None:
        self.entries[held.turn_id].extend(entries)

    async def rewrite(self, held: HeldTurn, entries: Sequence[LogEntry]) -> bool:
        self.entries[held.turn_id].clear()
        return await self.append(held, entries, ())

    async def take_over(self, held: HeldTurn) -> Recovered:
        self.fence = held.fence
        return Recovered(entries=list(self.entries.get(held.turn_id, [])), attempts=list(self.attempts))

    async def until(self, turn_id: str, length: int) -> None:
        """Wait until a turn's log is so long."""
        async with self._grown:
            await self._grown.wait_for(_longer_than(self.entries[turn_id], length - 1))

    async def follow(self, tenant_id: str, turn_id: str, after: int) -> AsyncIterator[LogEntry]:
        entries, last = self.entries.get(turn_id, []), after
        while True:
            for entry in [each for each in entries if each.position > last]:
                last = entry.position
                yield entry
                if isinstance(entry.event, TurnEnded):
                    return
            if turn_id not in self.entries:
                return
            async with self._grown:
                await self._grown.wait_for(_reaches_beyond(entries, last))


def _reaches_beyond(entries: list[LogEntry], position: int) -> Callable[[], bool]:
    return lambda: bool(entries) and entries[-1].position > position


def _longer_than(entries: list[LogEntry], length: int) -> Callable[[], bool]:
    return lambda: len(entries) > length


class MemoryUsage:
    def __init__(self) -> None:
        self.events: list[UsageEvent] = []

    async def record(self, events: Sequence[UsageEvent]) -> None:
        self.events += events

    async def record_attempt(self, events: Sequence[UsageEvent]) -> None:
        self.events += events
