"""The exact-response cache: a deterministic request that was answered before is answered from memory.

Only for keys that ask for it, only within a tenant, and only what an engine would say again word for word:
a temperature of 0. A hit calls no engine and costs nothing; its usage is that of the first answer. Answers
that call tools or carry log probabilities are not kept.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Protocol

import msgspec

from triplane.domain.completion import CompletionRequest, Flow
from triplane.domain.events import Delta, EngineEvent, Finished, FinishReason, Started, Usage
from triplane.domain.money import EngineCall

KEPT_S = 24 * 3600
MOST_ANSWER_CHARACTERS = 256 * 1024
STORE_S = 0.25
"""How long the store is waited for. One that is slower than that is worse than none."""
MEMORY_CHARACTERS = 64 * 2**20


class ResponseStore(Protocol):
    """Keeps an answer for `kept_s` seconds at most. It may lose it whenever it likes, and raises nothing."""

    async def get(self, tenant: str, key: str) -> bytes | None: ...

    async def put(self, tenant: str, key: str, answer: bytes, kept_s: int) -> None: ...


class CachedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    text: str
    reason: FinishReason
    usage: Usage


class ResponseCache:
    """Finds and keeps answers, within `STORE_S` or not at all."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store

    async def find(self, request: CompletionRequest) -> "CachedCompletion | None":
        raw = None
        try:
            async with asyncio.timeout(STORE_S):
                raw = await self._store.get(request.flow.tenant, cache_key(request))
        except TimeoutError:
            return None
        return CachedCompletion(msgspec.json.decode(raw, type=CachedAnswer)) if raw else None

    async def keep(self, request: CompletionRequest, answer: CachedAnswer) -> None:
        if len(answer.text) > MOST_ANSWER_CHARACTERS:
            return
        try:
            async with asyncio.timeout(STORE_S):
                place = request.flow.tenant, cache_key(request)
                await self._store.put(*place, msgspec.json.encode(answer), KEPT_S)
        except TimeoutError:
            return


def may_cache(request: CompletionRequest) -> bool:
    """Whether the key asks for it, and the engine would say the same again: it takes the likeliest token."""
    sampling = request.sampling
    is_deterministic = sampling.temperature == 0 and not request.continue_final_message
    return request.flow.caches and is_deterministic and not sampling.logprobs


def cache_key(request: CompletionRequest) -> str:
    """What two requests with the same answer have in common: everything but whose they are."""
    same = msgspec.structs.replace(request, request_id="", user=None, cache_salt=None, flow=Flow())
    return blake2b(msgspec.json.encode(same, order="deterministic"), digest_size=20).hexdigest()


class CachedCompletion:
    """An answer from the cache, in the shape of a `RunningCompletion`."""

    def __init__(self, answer: CachedAnswer) -> None:
        self.calls: list[EngineCall] = []
        self.degraded: list[str] = []
        self.usage = answer.usage
        self.engine = "cache"
        self._events: list[EngineEvent] = [
            Started(engine=self.engine, model=answer.model, is_cached=True),
            *([Delta(text=answer.text)] if answer.text else []),
            Finished(reason=answer.reason, usage=answer.usage),
        ]

    def __aiter__(self) -> AsyncIterator[EngineEvent]:
        return self

    async def __anext__(self) -> EngineEvent:
        if not self._events:
            raise StopAsyncIteration
        return self._events.pop(0)

    async def take_events(self) -> list[EngineEvent]:
        events, self._events = self._events, []
        return events

    async def aclose(self) -> None:
        self._events = []


class MemoryResponses:
    """A `ResponseStore` in this process: the answers that were used last, up to a size."""

    def __init__(self, most_characters: int = MEMORY_CHARACTERS) -> None:
        self._most = most_characters
        self._size = 0
        self._answers: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()

    async def get(self, tenant: str, key: str) -> bytes | None:
        found = self._answers.get((tenant, key))
        if found is None:
            return None
        if time.monotonic() > found[0]:
            self._drop((tenant, key))
            return None
        self._answers.move_to_end((tenant, key))
        return found[1]

    async def put(self, tenant: str, key: str, answer: bytes, kept_s: int) -> None:
        if (tenant, key) in self._answers:
            self._drop((tenant, key))
        self._answers[tenant, key] = (time.monotonic() + kept_s, answer)
        self._size += len(answer)
        while self._size > self._most:
            self._drop(next(iter(self._answers)))

    def _drop(self, place: tuple[str, str]) -> None:
        self._size -= len(self._answers.pop(place)[1])
