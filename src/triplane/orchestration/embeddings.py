"""Embeddings for a user: within their limits, and each engine call on the bill, whatever becomes of it."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from triplane.domain.conversation import Principal
from triplane.domain.embeddings import EmbeddingRequest, Vector, estimated_input_tokens
from triplane.domain.events import Usage
from triplane.domain.limits import LimitState
from triplane.domain.money import EngineCall, usage_of
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.limiting import RateLimits, Reservation, Unlimited
from triplane.orchestration.metering import record_usage, usage_events
from triplane.orchestration.ports import UsageStore


class Embedding(Protocol):
    """Ask for its vectors once; close it in any case. `calls` are billed, `usage` is told to the client."""

    @property
    def calls(self) -> Sequence[EngineCall]: ...

    @property
    def usage(self) -> Usage: ...

    async def vectors(self) -> list[Vector]: ...

    async def aclose(self) -> None: ...


class EmbeddingGateway(Protocol):
    def embed(self, request: EmbeddingRequest) -> Embedding:
        """Raises ModelNotFound, InvalidRequest, now or when the vectors are asked for."""
        ...


@dataclass(frozen=True, kw_only=True)
class EmbeddingDeps:
    """`metering` owns the writes of usage events, which must survive the request's cancellation."""

    gateway: EmbeddingGateway
    usage: UsageStore
    metering: BackgroundTasks
    limits: RateLimits = field(default_factory=Unlimited)


@dataclass(frozen=True, kw_only=True)
class EmbeddedTexts:
    vectors: Sequence[Vector]
    usage: Usage
    limits: LimitState


async def embed(who: Principal, request: EmbeddingRequest, deps: EmbeddingDeps) -> EmbeddedTexts:
    """A vector for each input. Raises RateLimited, OverLimit, and what the gateway refuses with."""
    tokens = estimated_input_tokens(request.inputs)
    with await deps.limits.reserve(request.flow, request.model, tokens) as reserved:
        embedding = deps.gateway.embed(request)
        try:
            async with aclosing(embedding):
                vectors = await embedding.vectors()
        except BaseException:
            if usage_of(embedding.calls).total_tokens:
                _settle(who, request, embedding, reserved, deps)
            raise  # else nothing was computed, and leaving refunds
        _settle(who, request, embedding, reserved, deps)
    return EmbeddedTexts(vectors=vectors, usage=embedding.usage, limits=reserved.limits)


def _settle(
    who: Principal,
    request: EmbeddingRequest,
    embedding: Embedding,
    reserved: Reservation,
    deps: EmbeddingDeps,
) -> None:
    reserved.settle(usage_of(embedding.calls))
    if events := usage_events(who, request, embedding.calls):
        deps.metering.start(f"metering {request.request_id}", record_usage(events, deps.usage))
