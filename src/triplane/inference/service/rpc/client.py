"""The gateway at the other end of a gRPC channel: what `Gateway` is in the process, from another one."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import msgspec
from grpc_health.v1 import health_pb2
from opentelemetry.propagate import inject

from triplane.domain.completion import CompletionRequest, Message, ModelCard
from triplane.domain.embeddings import EmbeddingRequest, Vector
from triplane.domain.errors import (
    DependencyFailed,
    EngineFailed,
    EngineUnavailable,
    ModelNotFound,
    TriplaneError,
)
from triplane.domain.events import EngineEvent, Failed, Finished, Started, Usage
from triplane.domain.money import CallsMade, EngineCall
from triplane.domain.offers import CatalogueView
from triplane.inference.fleet import RouteView
from triplane.inference.service.rpc import gateway_pb2 as pb
from triplane.inference.service.rpc.messages import (
    ERROR_KEY,
    SERVICE,
    calls_of,
    card_of,
    error_of,
    events_of,
    usage_in,
)
from triplane.inference.service.rpc.server import MAX_MESSAGE_BYTES

CALL_S = 30.0
COMPLETION_S = 3600.0
STOP_S = 2.0
"""How long a stopped completion may take to say what it has cost."""
CARDS_S = 5.0
READ_AHEAD = 2

_Stream = grpc.aio.StreamStreamCall[Any, pb.Progress]


class ClientTls(msgspec.Struct, frozen=True, kw_only=True):
    """PEM. `ca` is the authority of the server's certificate; the other two are the client's own (mTLS)."""

    ca: bytes
    key: bytes | None = None
    certificate: bytes | None = None


class RemoteCompletion:
    """A completion that runs in the gateway's process. As `RunningCompletion`: iterate it once, close it.

    A task of its own reads, `READ_AHEAD` messages ahead at most: gRPC ends a call whose reader is cancelled,
    and then its cost would never be told.
    """

    def __init__(self, stream: _Stream) -> None:
        self.calls: list[EngineCall] = []
        self.degraded: list[str] = []
        self._stream = stream
        self._inbox: asyncio.Queue[list[EngineEvent] | TriplaneError | None] = asyncio.Queue(READ_AHEAD)
        self._reading = asyncio.create_task(self._read())
        self._ready: list[EngineEvent] = []
        self._place = 0
        self._is_over = False
        self._is_closed = False

    @property
    def usage(self) -> Usage:
        return sum((call.usage for call in self.calls), Usage())

    @property
    def engine(self) -> str:
        return self.calls[-1].replica if self.calls else ""

    async def opened(self) -> None:
        """Return with the first event. Raises what the gateway refuses with."""
        first = await self._inbox.get()
        if isinstance(first, TriplaneError):
            raise first
        self._take(first)

    def __aiter__(self) -> AsyncIterator[EngineEvent]:
        return self

    async def __anext__(self) -> EngineEvent:
        while self._place >= len(self._ready):
            if self._is_over or self._is_closed:
                raise StopAsyncIteration
            await self._fill()
        self._place += 1
        return self._ready[self._place - 1]

    async def take_events(self) -> list[EngineEvent]:
        """All that is there, waiting for something if nothing is; empty behind the end."""
        while self._place >= len(self._ready) and not self._is_over and not self._is_closed:
            await self._fill()
        events = self._ready[self._place :]
        self._place = len(self._ready)
        return events

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._ready.clear()
        try:
            async with asyncio.timeout(STOP_S):
                if not self._reading.done():
                    await self._stream.write(pb.CompleteRequest(stop=pb.CompleteRequest.Stop()))
                while not self._reading.done():
                    await self._inbox.get()
        except (TimeoutError, grpc.RpcError, asyncio.InvalidStateError):
            pass
        finally:
            self._stream.cancel()
            self._reading.cancel()

    async def _fill(self) -> None:
        arrived = await self._inbox.get()
        if isinstance(arrived, TriplaneError):
            arrived = [Failed(code=arrived.code, message=arrived.message, retryable=True, usage=self.usage)]
        self._take(arrived)

    def _take(self, events: list[EngineEvent] | None) -> None:
        if events is None:
            self._is_over = True
            return
        if self._is_closed:
            return
        self._ready, self._place = events, 0
        for event in events:
            if isinstance(event, Started):
                self.degraded = event.degraded
            self._is_over = self._is_over or isinstance(event, Finished | Failed)

    async def _read(self) -> None:
        """Pass on what comes, to the end; the last thing is an error or None."""
        try:
            while isinstance(message := await self._stream.read(), pb.Progress):
                self.calls = calls_of(message)
                if message.events:
                    await self._inbox.put(events_of(message))
            await self._inbox.put(await _end_of(self._stream))
        except grpc.aio.AioRpcError as error:
            await self._inbox.put(_error_of(error))


class RemoteEmbedding:
    """An embedding that runs in the gateway's process. As `RunningEmbedding`: ask once, close it."""

    def __init__(self, answer: Coroutine[Any, Any, pb.EmbedResponse]) -> None:
        self.calls: list[EngineCall] = []
        self.usage = Usage()
        self._answer = answer

    async def vectors(self) -> list[Vector]:
        answer = await self._answer
        self.calls, self.usage = calls_of(answer), usage_in(answer)
        if answer.error:
            raise error_of(answer.error)
        return list(answer.vectors)

    async def aclose(self) -> None:
        self._answer.close()


class RemoteGateway:
    """`Gateway` for the processes that leave inference to another. Use and `close` it on one event loop."""

    def __init__(self, address: str, tls: ClientTls | None = None) -> None:
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 30_000),
        ]
        credentials = tls and grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
        self._channel = (
            grpc.aio.secure_channel(address, credentials, options)
            if credentials
            else grpc.aio.insecure_channel(address, options)
        )
        self._complete = self._channel.stream_stream(
            f"/{SERVICE}/Complete", pb.CompleteRequest.SerializeToString, pb.Progress.FromString
        )
        self._cards: dict[str, ModelCard] = {}
        self._cards_until = 0.0

    async def complete(self, request: CompletionRequest, made: CallsMade | None = None) -> RemoteCompletion:
        """The running completion, once an engine has taken the request. Raises, and fills `made`, as
        `Gateway.complete` does."""
        stream = self._complete(timeout=COMPLETION_S, metadata=_trace_metadata())
        completion = RemoteCompletion(stream)
        try:
            with suppress(grpc.RpcError):  # the reader is told why
                await stream.write(pb.CompleteRequest(start=msgspec.json.encode(request)))
            await completion.opened()
        except BaseException:
            try:
                await completion.aclose()
            finally:
                if made is not None:
                    made.calls = completion.calls
            raise
        return completion

    def embed(self, request: EmbeddingRequest) -> RemoteEmbedding:
        """The embedding, not begun yet; what `Gateway.embed` refuses with, its `vectors` raise."""
        asked = pb.EmbedRequest(request=msgspec.json.encode(request))
        return RemoteEmbedding(self._ask("Embed", asked, pb.EmbedResponse, COMPLETION_S))

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> list[int]:
        asked = pb.CountTokensRequest(model=model, messages=msgspec.json.encode(messages))
        answer = await self._ask("CountTokens", asked, pb.CountTokensResponse)
        return list(answer.counts)

    async def models(self) -> list[ModelCard]:
        answer = await self._ask("ListModels", pb.ListModelsRequest(), pb.ListModelsResponse)
        return [card_of(each) for each in answer.models]

    async def model(self, model_id: str) -> ModelCard:
        """Raises ModelNotFound. Known cards are believed for `CARDS_S`."""
        if model_id not in self._cards or time.monotonic() > self._cards_until:
            self._cards = {card.id: card for card in await self.models()}
            self._cards_until = time.monotonic() + CARDS_S
        if model_id not in self._cards:
            raise ModelNotFound(f"There is no model {model_id!r}. GET /v1/models lists them.", param="model")
        return self._cards[model_id]

    async def check(self) -> None:
        """Whether the gateway can be reached and can serve. Raises EngineUnavailable."""
        method = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await method(health_pb2.HealthCheckRequest(service=SERVICE), timeout=5.0)
        except grpc.aio.AioRpcError as error:
            raise EngineUnavailable("The gateway can't be reached. It may be starting, or down.") from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise EngineUnavailable("The gateway says that its engines can't serve.")

    async def fleet(self) -> list[RouteView]:
        answer = await self._ask("GetFleet", pb.GetFleetRequest(), pb.GetFleetResponse)
        return msgspec.json.decode(answer.routes, type=list[RouteView])

    async def catalogue(self) -> CatalogueView:
        """The models with their routes, and the plans."""
        answer = await self._ask("GetCatalogue", pb.GetCatalogueRequest(), pb.GetCatalogueResponse)
        return msgspec.json.decode(answer.catalogue, type=CatalogueView)

    async def close(self) -> None:
        await self._channel.close()

    async def _ask(self, method: str, asked: Any, answer: Any, within_s: float = CALL_S) -> Any:
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}", type(asked).SerializeToString, answer.FromString
        )
        try:
            return await call(asked, timeout=within_s, metadata=_trace_metadata())
        except grpc.aio.AioRpcError as error:
            raise _error_of(error) from error


async def _end_of(stream: _Stream) -> TriplaneError | None:
    """Why a stream has ended: as it should, or with a refusal."""
    if await stream.code() is grpc.StatusCode.OK:
        return None
    return _from_metadata(await stream.trailing_metadata()) or _by_status(await stream.code())


def _error_of(error: grpc.aio.AioRpcError) -> TriplaneError:
    return _from_metadata(error.trailing_metadata()) or _by_status(error.code())


def _from_metadata(metadata: Any) -> TriplaneError | None:
    for key, value in metadata or ():
        if key == ERROR_KEY and isinstance(value, bytes):
            return error_of(value)
    return None


def _by_status(status: grpc.StatusCode) -> DependencyFailed:
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return EngineUnavailable("The gateway can't be reached. It may be starting, or down.")
    return EngineFailed(f"The gateway failed: {status.name}.")


def _trace_metadata() -> tuple[tuple[str, str], ...]:
    headers: dict[str, str] = {}
    inject(headers)
    return tuple(headers.items())
