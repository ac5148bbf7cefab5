"""A completion without a conversation: only its cost is stored, and hanging up stops the engine."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from triplane.domain.completion import CompletionRequest
from triplane.domain.conversation import Principal
from triplane.domain.errors import TriplaneError
from triplane.domain.events import EngineEvent, Failed
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.metering import record_usage, usage_event
from triplane.orchestration.ports import Completion, Gateway, UsageStore


@dataclass(frozen=True, kw_only=True)
class StatelessDeps:
    """`metering` owns the writes of usage events, which must survive the request's cancellation."""

    gateway: Gateway
    usage: UsageStore
    metering: BackgroundTasks


class StatelessCompletion:
    """A completion from the moment it is asked for. Close it in every case; its cost is recorded then."""

    def __init__(self, who: Principal, request: CompletionRequest, deps: StatelessDeps) -> None:
        self._who = who
        self._request = request
        self._deps = deps
        self._opening: asyncio.Task[Completion] = asyncio.create_task(deps.gateway.complete(request))
        self._closed = False

    async def opened(self, within_s: float | None = None) -> bool:
        """Wait until an engine has taken it, or for the time given. Raises what the gateway refuses with."""
        await asyncio.wait((self._opening,), timeout=within_s)
        if self._opening.done():
            self._opening.result()
            return True
        return False

    async def __aiter__(self) -> AsyncIterator[EngineEvent]:
        """Its events; a refusal comes as `Failed`."""
        try:
            completion = await self._opening
        except TriplaneError as error:
            yield Failed(code=error.code, message=error.message, retryable=error.retryable)
            return
        async for event in completion:
            yield event

    async def aclose(self) -> None:
        """Stop the engine's work, at whatever point it is."""
        if self._closed:
            return
        self._closed = True
        self._opening.cancel()
        self._deps.metering.start(f"metering {self._request.request_id}", self._close_and_record())

    async def _close_and_record(self) -> None:
        await asyncio.wait((self._opening,))
        if self._opening.cancelled() or self._opening.exception():
            return
        completion = self._opening.result()
        await completion.aclose()
        await record_usage(usage_event(self._who, self._request, completion), self._deps.usage)
