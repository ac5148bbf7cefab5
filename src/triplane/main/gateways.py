"""The way to the engines: the gateway in this process, or the one that the settings name."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from triplane.adapters.redis.embedding_cache import RedisEmbeddings
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.adapters.redis.response_cache import RedisResponses
from triplane.inference.catalogue import EMBEDDED, Catalogue, Model, Route, read_catalogue
from triplane.inference.catalogue_file import follow_catalogue
from triplane.inference.embedding_cache import EmbeddingStore, MemoryEmbeddings
from triplane.inference.engines.opening import EngineOpener
from triplane.inference.gateway import Gateway
from triplane.inference.observer import GatewayObserver
from triplane.inference.response_cache import MemoryResponses, ResponseStore
from triplane.inference.service.rpc.client import ClientTls, RemoteGateway
from triplane.main.parts import pipeline_of, required
from triplane.orchestration.background import BackgroundTasks
from triplane.settings import GatewaySettings, Settings, SettingsError
from triplane.telemetry.completions import CompletionMetrics
from triplane.telemetry.metrics import Metrics


def gateway_of(
    settings: Settings, metrics: Metrics, redis: RedisPipeline, stack: AsyncExitStack
) -> Gateway | RemoteGateway:
    """The gateway in this process, or the way to the one that the settings name. Raises CatalogueError."""
    if settings.gateway.address is None:
        return own_gateway(settings, metrics, CompletionMetrics(metrics), memory_in(redis), stack)
    remote = RemoteGateway(settings.gateway.address, _client_tls(settings.gateway))
    stack.push_async_callback(remote.close)
    return remote


def _client_tls(wanted: GatewaySettings) -> ClientTls | None:
    if not wanted.is_tls:
        return None
    ca = required(str(wanted.ca) if wanted.ca else None, "TRIPLANE_GATEWAY_CA")
    return ClientTls(
        ca=pem(Path(ca)),
        key=pem(wanted.key) if wanted.key else None,
        certificate=pem(wanted.certificate) if wanted.certificate else None,
    )


@dataclass(frozen=True, kw_only=True)
class GatewayMemory:
    """Where a gateway keeps answers and embeddings."""

    responses: ResponseStore
    embeddings: EmbeddingStore


def memory_in(redis: RedisPipeline) -> GatewayMemory:
    return GatewayMemory(responses=RedisResponses(redis), embeddings=RedisEmbeddings(redis))


def memory_of(settings: Settings, stack: AsyncExitStack) -> GatewayMemory:
    """That of a gateway of its own: Redis, if the settings name one."""
    if settings.redis_url is None:
        return GatewayMemory(responses=MemoryResponses(), embeddings=MemoryEmbeddings())
    return memory_in(pipeline_of(settings, stack))


def own_gateway(
    settings: Settings,
    metrics: Metrics,
    observer: GatewayObserver,
    memory: GatewayMemory,
    stack: AsyncExitStack,
) -> Gateway:
    """The gateway, with its fleet looked after and its catalogue followed. Raises CatalogueError."""
    opener = EngineOpener(embedded_url=settings.engine.url, embedded_key=settings.engine.api_key)
    gateway = Gateway(
        catalogue_of(settings),
        opener,
        observer=observer,
        responses=memory.responses,
        embeddings=memory.embeddings,
    )
    stack.push_async_callback(gateway.close)
    watching = BackgroundTasks()
    watching.start("fleet", gateway.watch())
    watching.start("fleet metrics", metrics.fleet.follow(gateway.fleet))
    if settings.catalogue:
        watching.start("catalogue", follow_catalogue(settings.catalogue, gateway.reload))
    stack.push_async_callback(watching.aclose, 0)
    return gateway


def catalogue_of(settings: Settings) -> Catalogue:
    """The catalogue; of a set-up without one: the engine that the settings name serves the only model.

    Raises CatalogueError, SettingsError.
    """
    if settings.catalogue:
        return read_catalogue(settings.catalogue)
    wanted = settings.engine
    if wanted.kind == "llama_cpp":
        route = Route(
            engine="llama_cpp",
            urls=[EMBEDDED],
            model=wanted.model,
            context_length=wanted.context_length,
            slots=wanted.parallel,
            abilities=["tools", "json_schema", "continuation", "logprobs", "embeddings"],
            max_inputs=32,
            queue=256,
            max_wait_s=120.0,
        )
    else:
        route = Route(
            engine="openai_http",
            urls=[required(wanted.url, "TRIPLANE_ENGINE_URL")],
            model=wanted.model,
            context_length=wanted.context_length,
            key_env="TRIPLANE_ENGINE_API_KEY" if wanted.api_key else None,
            owned_by="upstream",
        )
    return Catalogue(routes={"engine": route}, models={wanted.model: Model(routes=["engine"])})


def pem(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file} can't be read: {error.strerror}.") from error
