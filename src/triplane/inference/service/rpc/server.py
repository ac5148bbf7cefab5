"""The gateway's gRPC server: every API process that is pointed at it shares its slots and its queues."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio
import msgspec
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry import context as trace_context
from opentelemetry.propagate import extract

from triplane.domain.completion import CompletionRequest, Message
from triplane.domain.embeddings import EmbeddingRequest
from triplane.domain.errors import (
    BodyTooLarge,
    Busy,
    ContextTooLong,
    DependencyFailed,
    EngineUnavailable,
    FirstTokenTimeout,
    InvalidRequest,
    NotFound,
    Refused,
    StreamStalled,
    TriplaneError,
)
from triplane.domain.money import CallsMade, usage_of
from triplane.inference.gateway import AnyCompletion, Gateway
from triplane.inference.service.rpc import gateway_pb2 as pb
from triplane.inference.service.rpc.messages import (
    ERROR_KEY,
    SERVICE,
    embedding_message,
    model_message,
    progress,
    refusal_of,
)

MAX_MESSAGE_BYTES = 64 * 2**20
LOOK_EVERY_S = 2.0
CLOSE_S = 5.0

_log = structlog.get_logger(__name__)

_STATUS: dict[type[TriplaneError], grpc.StatusCode] = {
    TriplaneError: grpc.StatusCode.INTERNAL,
    Refused: grpc.StatusCode.FAILED_PRECONDITION,
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    ContextTooLong: grpc.StatusCode.INVALID_ARGUMENT,
    BodyTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DependencyFailed: grpc.StatusCode.INTERNAL,
    EngineUnavailable: grpc.StatusCode.UNAVAILABLE,
    FirstTokenTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    StreamStalled: grpc.StatusCode.DEADLINE_EXCEEDED,
}

Context = grpc.aio.ServicerContext[Any, Any]


T = TypeVar("T")


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """PEM. With `client_ca` only clients with a certificate of that authority are served."""

    key: bytes
    certificate: bytes
    client_ca: bytes | None = None


class GatewayService:
    """The methods of gateway.proto."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def complete(
        self, asked: AsyncIterator[pb.CompleteRequest], context: Context
    ) -> AsyncIterator[pb.Progress]:
        """One completion. A client that goes away, or whose deadline passes, stops the engine's work."""
        first = await anext(asked, None)
        if first is None or first.WhichOneof("kind") != "start":
            await _refuse(context, InvalidRequest("The first message has to be `start`."))
        assert first is not None
        request = await _decoded(context, first.start, CompletionRequest, "start")
        token = trace_context.attach(extract(_metadata(context)))
        made = CallsMade()
        try:
            opening = asyncio.create_task(self._gateway.complete(request, made))
        finally:
            trace_context.detach(token)
        stopping = asyncio.create_task(_stop_when_told(asked, opening))
        try:
            async with aclosing(await opening) as completion:
                while events := await completion.take_events():
                    yield progress(events, completion.calls, is_over=False)
                await completion.aclose()
                yield progress((), completion.calls, is_over=True)
        except TriplaneError as error:
            if made.calls:
                yield progress((), made.calls, is_over=False)
            await _refuse(context, error)
        except asyncio.CancelledError:
            if not opening.cancelled() or _is_being_cancelled():
                raise
            yield progress((), made.calls, is_over=True)
        finally:
            stopping.cancel()

    async def embed(self, asked: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        request = await _decoded(context, asked.request, EmbeddingRequest, "request")
        token = trace_context.attach(extract(_metadata(context)))
        try:
            return await self._embedded(request)
        except TriplaneError as error:
            await _refuse(context, error)
            raise
        finally:
            trace_context.detach(token)

    async def _embedded(self, request: EmbeddingRequest) -> pb.EmbedResponse:
        """A failure behind which something was computed is told in the answer, with what it has cost."""
        async with aclosing(self._gateway.embed(request)) as embedding:
            try:
                vectors = await embedding.vectors()
            except TriplaneError as error:
                if not usage_of(embedding.calls).total_tokens:
                    raise
                return embedding_message((), embedding.calls, embedding.usage, error)
            return embedding_message(vectors, embedding.calls, embedding.usage, None)

    async def count_tokens(self, asked: pb.CountTokensRequest, context: Context) -> pb.CountTokensResponse:
        messages = await _decoded(context, asked.messages, list[Message], "messages")
        try:
            counts = await self._gateway.count_tokens(asked.model, messages)
        except TriplaneError as error:
            await _refuse(context, error)
            raise
        return pb.CountTokensResponse(counts=counts)

    async def list_models(self, _: pb.ListModelsRequest, __: Context) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[model_message(card) for card in await self._gateway.models()])

    async def get_fleet(self, _: pb.GetFleetRequest, __: Context) -> pb.GetFleetResponse:
        return pb.GetFleetResponse(routes=msgspec.json.encode(self._gateway.fleet()))

    async def get_catalogue(self, _: pb.GetCatalogueRequest, __: Context) -> pb.GetCatalogueResponse:
        return pb.GetCatalogueResponse(catalogue=msgspec.json.encode(await self._gateway.catalogue()))


@asynccontextmanager
async def serving(gateway: Gateway, address: str, tls: TlsFiles | None = None) -> AsyncIterator[int]:
    """Serve at this address for as long as the context lasts; yields the port. Raises RuntimeError (bind).

    On leaving, calls that run have `CLOSE_S` to end; health says before that no new one should come.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]
    )
    server.add_generic_rpc_handlers((_handlers(GatewayService(gateway)),))
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = server.add_secure_port(address, _credentials(tls)) if tls else server.add_insecure_port(address)
    if port == 0:
        raise RuntimeError(f"The gateway can't listen at {address}.")
    await _tell_health(gateway, healthy)
    await server.start()
    looking = asyncio.create_task(_keep_telling(gateway, healthy))
    try:
        yield port
    finally:
        looking.cancel()
        await healthy.enter_graceful_shutdown()
        await server.stop(CLOSE_S)


async def _stop_when_told(
    asked: AsyncIterator[pb.CompleteRequest], opening: asyncio.Task[AnyCompletion]
) -> None:
    async for message in asked:
        if message.WhichOneof("kind") == "stop":
            if not opening.done():
                opening.cancel()
            elif not opening.cancelled() and opening.exception() is None:
                await opening.result().aclose()
            return


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _keep_telling(gateway: Gateway, healthy: health.aio.HealthServicer) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        await _tell_health(gateway, healthy)


async def _tell_health(gateway: Gateway, healthy: health.aio.HealthServicer) -> None:
    is_well = True
    try:
        await gateway.check()
    except DependencyFailed:
        is_well = False
    known = health_pb2.HealthCheckResponse
    for name in ("", SERVICE):
        await healthy.set(name, known.SERVING if is_well else known.NOT_SERVING)


async def _refuse(context: Context, error: TriplaneError) -> None:
    """End the call with the error's status, and the error itself behind it."""
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    await context.abort(status, error.message, ((ERROR_KEY, refusal_of(error)),))


async def _decoded(context: Context, raw: bytes, kind: type[T], field: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        await _refuse(context, InvalidRequest(f"{field}: {error}", param=field))
        raise


def _metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.client_ca,
        require_client_auth=tls.client_ca is not None,
    )


def _handlers(service: GatewayService) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Complete": grpc.stream_stream_rpc_method_handler(
                service.complete,
                request_deserializer=pb.CompleteRequest.FromString,
                response_serializer=pb.Progress.SerializeToString,
            ),
            "Embed": grpc.unary_unary_rpc_method_handler(
                service.embed,
                request_deserializer=pb.EmbedRequest.FromString,
                response_serializer=pb.EmbedResponse.SerializeToString,
            ),
            "CountTokens": grpc.unary_unary_rpc_method_handler(
                service.count_tokens,
                request_deserializer=pb.CountTokensRequest.FromString,
                response_serializer=pb.CountTokensResponse.SerializeToString,
            ),
            "ListModels": grpc.unary_unary_rpc_method_handler(
                service.list_models,
                request_deserializer=pb.ListModelsRequest.FromString,
                response_serializer=pb.ListModelsResponse.SerializeToString,
            ),
            "GetFleet": grpc.unary_unary_rpc_method_handler(
                service.get_fleet,
                request_deserializer=pb.GetFleetRequest.FromString,
                response_serializer=pb.GetFleetResponse.SerializeToString,
            ),
            "GetCatalogue": grpc.unary_unary_rpc_method_handler(
                service.get_catalogue,
                request_deserializer=pb.GetCatalogueRequest.FromString,
                response_serializer=pb.GetCatalogueResponse.SerializeToString,
            ),
        },
    )
