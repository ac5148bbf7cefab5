"""Parts that several processes are built from, each closed with the process."""

import asyncio
from contextlib import AsyncExitStack

from triplane import __version__
from triplane.adapters.http_server import STOP_SIGNALS
from triplane.adapters.postgres.opening import open_current_database
from triplane.adapters.postgres.pool import Database
from triplane.adapters.redis.buckets import RedisBuckets
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.inference.buckets import LEASE_S, Buckets, MemoryBuckets
from triplane.inference.catalogue import Catalogue, read_catalogue
from triplane.inference.catalogue_file import follow_catalogue
from triplane.inference.limit_policy import LimitPolicy
from triplane.inference.limits import Limiter
from triplane.inference.shared_buckets import SharedBuckets
from triplane.orchestration.background import BackgroundTasks
from triplane.settings import Settings, SettingsError
from triplane.telemetry.metrics import Metrics
from triplane.telemetry.traces import Tracing, start_tracing


def told_to_stop() -> asyncio.Event:
    """Set when a signal asks this process to end."""
    told = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


def tracing_of(settings: Settings, service: str, stack: AsyncExitStack) -> Tracing:
    tracing = start_tracing(settings.otlp_endpoint, service, __version__)
    tracing.install()
    stack.push_async_callback(asyncio.to_thread, tracing.shutdown)
    return tracing


async def database_of(settings: Settings, stack: AsyncExitStack) -> Database:
    url = required(settings.database_url, "TRIPLANE_DATABASE_URL")
    database = await open_current_database(url, pooled=settings.database_pooled)
    stack.push_async_callback(database.close)
    return database


def pipeline_of(settings: Settings, stack: AsyncExitStack) -> RedisPipeline:
    """What turns write to and read from; what is on its way is written before the process ends."""
    pipeline = RedisPipeline(required(settings.redis_url, "TRIPLANE_REDIS_URL"))
    stack.push_async_callback(pipeline.aclose)
    return pipeline


def buckets_of(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Buckets:
    """Those of all processes over the Redis that is set, or this process's own."""
    return shared_buckets(pipeline_of(settings, stack), metrics) if settings.redis_url else MemoryBuckets()


def shared_buckets(redis: RedisPipeline, metrics: Metrics) -> Buckets:
    return SharedBuckets(RedisBuckets(redis, LEASE_S), metrics)


def limiter_of(settings: Settings, buckets: Buckets, metrics: Metrics, stack: AsyncExitStack) -> Limiter:
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


def required(value: str | None, name: str) -> str:
    if value is None:
        raise SettingsError(
            f"{name} is not set. Set it, or use `triplane serve`, which starts what is missing."
        )
    return value
