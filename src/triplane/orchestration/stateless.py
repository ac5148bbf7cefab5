"""A completion without a conversation: only its cost is stored, and hanging up stops the engine."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from triplane.domain.completion import CompletionRequest
from triplane.domain.conversation import Principal
from triplane.domain.errors import TriplaneError
from triplane.domain.events import EngineEvent, Failed, Finished, Usage
from triplane.domain.limits import LimitState, estimated_tokens
from triplane.domain.money import CallsMade, usage_of
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.limiting import RateLimits, Reservation, Unlimited
from triplane.orchestration.metering import record_usage, usage_events
from triplane.orchestration.ports import Completion, Gateway, UsageStore


@dataclass(frozen=True, kw_only=True)
class StatelessDeps:
    """`metering` owns the writes of usage events, which must survive the request's cancellation."""

    gateway: Gateway
    usage: UsageStore
    metering: BackgroundTasks
    limits: RateLimits = field(default_factory=Unlimited)


async def start_completion(
    who: Principal, request: CompletionRequest, deps: StatelessDeps
) -> "StatelessCompletion":
    """Ask for a completion, within its user's limits. Raises RateLimited, OverLimit; the rest comes later."""
    tokens = estimated_tokens(request)
    reservation = await deps.limits.reserve(request.flow, request.model, tokens)
    return StatelessCompletion(who, request, deps, reservation)


class StatelessCompletion:
    """A completion from the moment it is asked for. Close it in every case; its cost is recorded then."""

    def __init__(
        self, who: Principal, request: CompletionRequest, deps: StatelessDeps, reservation: Reservation
    ) -> None:
        self._who = who
        self._request = request
        self._deps = deps
        self._reservation = reservation
        self._made = CallsMade()
        self._opening: asyncio.Task[Completion] = asyncio.create_task(
            deps.gateway.complete(request, self._made)
        )
        self._closed = False

    @property
    def limits(self) -> LimitState:
        """How the user stands since it was asked for."""
        return self._reservation.limits

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
        while events := await completion.take_events():
            for event in events:
                if isinstance(event, Finished | Failed):  # before the client knows, who may ask again at once
                    self._reservation.settle(completion.usage)
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
            calls = self._made.calls
            self._settle_unbegun(usage_of(calls))
        else:
            completion = self._opening.result()
            await completion.aclose()
            calls = completion.calls
            self._reservation.settle(completion.usage)
        await record_usage(usage_events(self._who, self._request, calls), self._deps.usage)

    def _settle_unbegun(self, usage: Usage) -> None:
        """It failed, or was left, before its first event; engines may have computed for it all the same."""
        if usage.total_tokens:
            self._reservation.settle(usage)
        else:
            self._reservation.refund()
