"""Wiring: builds each process from the rooms. It knows everything and decides nothing."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog
from prometheus_client import start_http_server

from triplane import __version__
from triplane.adapters.http_server import STOP_SIGNALS, cancelled_by_signals, serve_http
from triplane.adapters.objects import open_objects
from triplane.adapters.postgres.accounts import PostgresAccounts
from triplane.adapters.postgres.branches import PostgresBranches
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.history import PostgresHistory
from triplane.adapters.postgres.jobs import JobHandler
from triplane.adapters.postgres.jobs import run_worker as run_jobs
from triplane.adapters.postgres.opening import open_current_database
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.adapters.postgres.usage import PostgresUsage
from triplane.adapters.redis.announcements import RedisAnnouncements, RedisAnnouncer
from triplane.adapters.redis.buckets import RedisBuckets
from triplane.adapters.redis.connection import check_redis, open_redis
from triplane.adapters.redis.hot_window import RedisHotWindow
from triplane.adapters.redis.log_reader import LogReader
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.adapters.redis.replay_log import RedisReplayLog
from triplane.adapters.redis.response_cache import RedisResponses
from triplane.adapters.redis.signals import RedisStopSignals
from triplane.domain.fleet import RouteView
from triplane.experience.web_app import WebApp
from triplane.inference.buckets import LEASE_S, Buckets, MemoryBuckets
from triplane.inference.catalogue import EMBEDDED, Catalogue, Model, Route, read_catalogue
from triplane.inference.catalogue_file import follow_catalogue
from triplane.inference.engines.opening import EngineOpener
from triplane.inference.gateway import Gateway
from triplane.inference.limit_policy import LimitPolicy
from triplane.inference.limits import Limiter
from triplane.inference.observer import GatewayObserver
from triplane.inference.response_cache import MemoryResponses, ResponseStore
from triplane.inference.service.completions import Completions
from triplane.inference.service.http_proxy import HttpProxy
from triplane.inference.service.keys import KeyFile
from triplane.inference.service.metering import CallMeter
from triplane.inference.service.rpc.client import ClientTls, RemoteGateway
from triplane.inference.service.rpc.server import TlsFiles, serving
from triplane.inference.service.server import HttpServer
from triplane.inference.service.usage_log import UsageLog
from triplane.inference.shared_buckets import SharedBuckets
from triplane.orchestration.accounts.api_keys import ApiKeys
from triplane.orchestration.accounts.plans import one_plan_for_all
from triplane.orchestration.accounts.sessions import Sessions
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.bff.app import create_app
from triplane.orchestration.bff.branches import BranchDeps, branch_handlers
from triplane.orchestration.bff.completions import CompletionDeps, completion_handlers
from triplane.orchestration.bff.deps import AppDeps, ASGIApp
from triplane.orchestration.bff.fleet import fleet_handlers
from triplane.orchestration.bff.live_updates import live_update_handlers
from triplane.orchestration.bff.summaries import summary_handlers
from triplane.orchestration.bff.turns import turn_handlers
from triplane.orchestration.following import FollowDeps
from triplane.orchestration.recovery import recover_turns
from triplane.orchestration.stateless import StatelessDeps
from triplane.orchestration.summaries import SUMMARISE, SummaryDeps, SummaryJob, summarise
from triplane.orchestration.titles import TitleDeps, TitleJob, generate_title
from triplane.orchestration.turn import STOP, TurnDeps
from triplane.settings import GatewaySettings, Settings, SettingsError
from triplane.telemetry.completions import CompletionMetrics
from triplane.telemetry.logs import configure_logging
from triplane.telemetry.metrics import Metrics
from triplane.telemetry.requests import RequestTelemetry
from triplane.telemetry.traces import Tracing, start_tracing

SYSTEM_POLICY = "You are a helpful assistant. Answer clearly and to the point."
GRACE_S = 3.0
"""How long running requests and turns may go on once a process is told to stop."""

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_api(settings: Settings, leaving: "asyncio.Future[None]") -> AsyncIterator[ASGIApp]:
    """The whole HTTP application, with everything behind it open.

    `leaving` is to be done once the process is told to stop: streams that are followed elsewhere end then.

    Raises SettingsError, StoreUnavailable and MigrationError (a database that this program can't serve).
    """
    async with AsyncExitStack() as stack:
        tracing = _tracing(settings, "triplane-api", stack)
        metrics = Metrics()
        database = await _database(settings, stack)
        redis = open_redis(_required(settings.redis_url, "TRIPLANE_REDIS_URL"))
        stack.push_async_callback(redis.aclose)
        pipeline = _pipeline(settings, stack)
        objects = open_objects(settings.objects_url, settings.data_dir)
        gateway = _gateway(settings, metrics, pipeline, stack)
        turns, conversations = PostgresTurns(database), PostgresConversations(database)
        reader = LogReader(redis)
        log, usage = RedisReplayLog(pipeline, reader), PostgresUsage(database)
        stack.push_async_callback(usage.aclose)
        history = PostgresHistory(database)
        limits = _limiter(settings, _shared_buckets(pipeline, metrics), metrics, stack)
        plan_of = one_plan_for_all(settings.default_plan)
        process = f"{socket.gethostname()}:{os.getpid()}"
        running, metering = BackgroundTasks(), BackgroundTasks()
        stack.push_async_callback(metering.aclose, GRACE_S)
        signals = RedisStopSignals(redis, lambda turn_id: running.cancel(turn_id, STOP))
        listening = BackgroundTasks()
        listening.start("reader", reader.run())
        listening.start("signals", signals.run())
        stack.push_async_callback(listening.aclose, 0)
        announcer = RedisAnnouncer(pipeline)
        turn = TurnDeps(
            conversations=conversations,
            turns=turns,
            hot_window=RedisHotWindow(pipeline),
            history=history,
            log=log,
            gateway=gateway,
            usage=usage,
            running=running,
            system_policy=SYSTEM_POLICY,
            owner=process,
            observer=metrics,
            announcer=announcer,
            signals=signals,
            limits=limits,
        )
        stack.push_async_callback(running.aclose, 0)
        recovering = BackgroundTasks()
        recovering.start("recovery", recover_turns(turn))
        stack.push_async_callback(recovering.aclose, 0)
        follow = FollowDeps(turns=turns, log=log)
        branches = PostgresBranches(database)
        stateless = StatelessDeps(gateway=gateway, usage=usage, metering=metering, limits=limits)
        accounts = PostgresAccounts(database)

        async def fleet() -> list[RouteView]:
            return await gateway.fleet() if isinstance(gateway, RemoteGateway) else gateway.fleet()

        app = create_app(
            AppDeps(
                conversations=conversations,
                gateway=gateway,
                sessions=Sessions(accounts, _required(settings.secret, "TRIPLANE_SECRET")),
                api_keys=ApiKeys(accounts),
                checks={
                    "PostgreSQL": database.check,
                    "Redis": lambda: check_redis(redis),
                    "objects": objects.check,
                    "engine": gateway.check,
                },
                metrics=metrics.exposition,
                web=WebApp(settings.web_dist),
                max_body_bytes=settings.max_body_bytes,
                public_url=settings.public_url,
                announcer=announcer,
            ),
            [
                *completion_handlers(
                    CompletionDeps(turn=turn, follow=follow, stateless=stateless, plan_of=plan_of)
                ),
                *turn_handlers(turn, follow, turns, leaving),
                *live_update_handlers(RedisAnnouncements(redis, reader), leaving),
                *branch_handlers(BranchDeps(turn=turn, follow=follow, branches=branches, plan_of=plan_of)),
                *summary_handlers(history),
                *fleet_handlers(process, fleet),
            ],
        )
        yield RequestTelemetry(app, metrics, tracing)


async def run_api(settings: Settings, listener: socket.socket) -> None:
    """Serve HTTP on an open socket until told to stop, also while it starts."""
    configure_logging(settings.log_level)
    leaving = asyncio.get_running_loop().create_future()
    with cancelled_by_signals(leaving):
        async with open_api(settings, leaving) as app:
            await serve_http(app, listener, leaving, GRACE_S)


@dataclass(frozen=True, kw_only=True)
class HttpGatewayOptions:
    """`grace_s`: how long running answers may go on once the process is told to stop."""

    keys: Path
    usage_log: Path
    grace_s: float


async def run_http_gateway(settings: Settings, listening: socket.socket, options: HttpGatewayOptions) -> None:
    """The gateway alone, as an OpenAI-compatible proxy, until told to stop.

    Raises SettingsError, KeyFileError, OSError (the usage log can't be opened).
    """
    configure_logging(settings.log_level)
    async with AsyncExitStack() as stack:
        tracing = _tracing(settings, "triplane-gateway", stack)
        metrics = Metrics()
        keys, usage_log = KeyFile(options.keys), UsageLog(options.usage_log)
        stack.push_async_callback(usage_log.close)
        buckets = _buckets(settings, metrics, stack)
        observer = CallMeter(CompletionMetrics(metrics), usage_log)
        gateway = _own_gateway(settings, metrics, observer, _responses(settings, stack), stack)
        limiter = _limiter(settings, buckets, metrics, stack)
        completions = Completions(gateway, limiter, usage_log)
        told = _told_to_stop()
        proxy = HttpProxy(gateway, keys, completions, metrics, tracing, told.is_set)
        server = HttpServer(proxy, settings.max_body_bytes)
        await server.start(listening)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _read_again, keys, usage_log)
        _spare_the_collector()
        _log.info("the gateway listens", keys=len(keys))
        await told.wait()
        await server.drain(options.grace_s)


def _spare_the_collector() -> None:
    """What lives as long as the process needs no looking through, and a token makes few objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def run_rpc_gateway(settings: Settings, address: str, metrics_at: tuple[str, int] | None) -> None:
    """The gateway alone, over gRPC, until told to stop; its metrics over HTTP, if an address is given.

    Raises SettingsError, CatalogueError, RuntimeError (it can't listen there).
    """
    configure_logging(settings.log_level)
    async with AsyncExitStack() as stack:
        _tracing(settings, "triplane-gateway", stack)
        metrics, told = Metrics(), _told_to_stop()
        gateway = _own_gateway(
            settings, metrics, CompletionMetrics(metrics), _responses(settings, stack), stack
        )
        if metrics_at:
            server, thread = start_http_server(metrics_at[1], metrics_at[0], registry=metrics.registry)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        await stack.enter_async_context(serving(gateway, address, _server_tls(settings.gateway)))
        _log.info("the gateway listens", address=address)
        await told.wait()


def _read_again(keys: KeyFile, usage_log: UsageLog) -> None:
    keys.refresh()
    usage_log.reopen()


async def run_worker(settings: Settings) -> None:
    """Work through the jobs until told to stop."""
    configure_logging(settings.log_level)
    async with AsyncExitStack() as stack:
        _tracing(settings, "triplane-worker", stack)
        database = await _database(settings, stack)
        pipeline = _pipeline(settings, stack)
        gateway, usage = _gateway(settings, Metrics(), pipeline, stack), PostgresUsage(database)
        titles = TitleDeps(
            conversations=PostgresConversations(database),
            gateway=gateway,
            usage=usage,
            announcer=RedisAnnouncer(_pipeline(settings, stack)),
        )
        summaries = SummaryDeps(history=PostgresHistory(database), gateway=gateway, usage=usage)

        async def title(payload: bytes) -> None:
            await generate_title(msgspec.json.decode(payload, type=TitleJob), titles)

        async def summary(payload: bytes) -> None:
            await summarise(msgspec.json.decode(payload, type=SummaryJob), summaries)

        handlers = {
            "generate_title": JobHandler(run=title, attempts=3),
            SUMMARISE: JobHandler(run=summary, attempts=3),
        }
        await run_jobs(_listening_url(settings), handlers, _told_to_stop())


def _listening_url(settings: Settings) -> str:
    """PostgreSQL's own address: the worker listens for jobs, which transaction pooling can't do."""
    if settings.database_pooled:
        return _required(settings.database_direct_url, "TRIPLANE_DATABASE_DIRECT_URL")
    return _required(settings.database_direct_url or settings.database_url, "TRIPLANE_DATABASE_URL")


def _told_to_stop() -> asyncio.Event:
    """Set when a signal asks this process to end."""
    told = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


def _tracing(settings: Settings, service: str, stack: AsyncExitStack) -> Tracing:
    tracing = start_tracing(settings.otlp_endpoint, service, __version__)
    tracing.install()
    stack.push_async_callback(asyncio.to_thread, tracing.shutdown)
    return tracing


async def _database(settings: Settings, stack: AsyncExitStack) -> Database:
    url = _required(settings.database_url, "TRIPLANE_DATABASE_URL")
    database = await open_current_database(url, pooled=settings.database_pooled)
    stack.push_async_callback(database.close)
    return database


def _pipeline(settings: Settings, stack: AsyncExitStack) -> RedisPipeline:
    """What turns write to and read from; what is on its way is written before the process ends."""
    pipeline = RedisPipeline(_required(settings.redis_url, "TRIPLANE_REDIS_URL"))
    stack.push_async_callback(pipeline.aclose)
    return pipeline


def _buckets(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Buckets:
    """Those of all processes over the Redis that is set, or this process's own."""
    return _shared_buckets(_pipeline(settings, stack), metrics) if settings.redis_url else MemoryBuckets()


def _shared_buckets(redis: RedisPipeline, metrics: Metrics) -> Buckets:
    return SharedBuckets(RedisBuckets(redis, LEASE_S), metrics)


def _limiter(settings: Settings, buckets: Buckets, metrics: Metrics, stack: AsyncExitStack) -> Limiter:
    """The limits over these buckets; what has ended is told before the process ends."""
    policy = read_catalogue(settings.catalogue).limit_policy if settings.catalogue else LimitPolicy()
    limiter = Limiter(buckets, policy, metrics)
    serving = BackgroundTasks()

    async def reload(catalogue: Catalogue) -> None:
        limiter.policy = catalogue.limit_policy

    if settings.catalogue:
        serving.start("catalogue", follow_catalogue(settings.catalogue, reload))
    serving.start("limits", limiter.run())
    stack.push_async_callback(serving.aclose, 0)
    stack.push_async_callback(limiter.drain, 1.0)
    return limiter


def _gateway(
    settings: Settings, metrics: Metrics, redis: RedisPipeline, stack: AsyncExitStack
) -> Gateway | RemoteGateway:
    """The gateway in this process, or the way to the one that the settings name. Raises CatalogueError."""
    if settings.gateway.address is None:
        return _own_gateway(settings, metrics, CompletionMetrics(metrics), RedisResponses(redis), stack)
    remote = RemoteGateway(settings.gateway.address, _client_tls(settings.gateway))
    stack.push_async_callback(remote.close)
    return remote


def _client_tls(wanted: GatewaySettings) -> ClientTls | None:
    if not wanted.is_tls:
        return None
    ca = _required(str(wanted.ca) if wanted.ca else None, "TRIPLANE_GATEWAY_CA")
    return ClientTls(
        ca=_pem(Path(ca)),
        key=_pem(wanted.key) if wanted.key else None,
        certificate=_pem(wanted.certificate) if wanted.certificate else None,
    )


def _server_tls(wanted: GatewaySettings) -> TlsFiles | None:
    """TLS if there is a certificate; only for known clients if there is an authority of theirs."""
    if wanted.certificate is None:
        return None
    key = _required(str(wanted.key) if wanted.key else None, "TRIPLANE_GATEWAY_KEY")
    ca = _pem(wanted.ca) if wanted.ca else None
    return TlsFiles(key=_pem(Path(key)), certificate=_pem(wanted.certificate), client_ca=ca)


def _pem(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file} can't be read: {error.strerror}.") from error


def _responses(settings: Settings, stack: AsyncExitStack) -> ResponseStore:
    """Where a gateway of its own keeps answers: in Redis, if the settings name one."""
    if settings.redis_url is None:
        return MemoryResponses()
    return RedisResponses(_pipeline(settings, stack))


def _own_gateway(
    settings: Settings,
    metrics: Metrics,
    observer: GatewayObserver,
    responses: ResponseStore,
    stack: AsyncExitStack,
) -> Gateway:
    """The gateway, with its fleet looked after and its catalogue followed. Raises CatalogueError."""
    opener = EngineOpener(embedded_url=settings.engine.url, embedded_key=settings.engine.api_key)
    gateway = Gateway(catalogue_of(settings), opener, observer=observer, responses=responses)
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
            queue=256,
            max_wait_s=120.0,
        )
    else:
        route = Route(
            engine="openai_http",
            urls=[_required(wanted.url, "TRIPLANE_ENGINE_URL")],
            model=wanted.model,
            context_length=wanted.context_length,
            key_env="TRIPLANE_ENGINE_API_KEY" if wanted.api_key else None,
            owned_by="upstream",
        )
    return Catalogue(routes={"engine": route}, models={wanted.model: Model(routes=["engine"])})


def _required(value: str | None, name: str) -> str:
    if value is None:
        raise SettingsError(
            f"{name} is not set. Set it, or use `triplane serve`, which starts what is missing."
        )
    return value
