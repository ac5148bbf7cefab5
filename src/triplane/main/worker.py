"""The job worker."""

from contextlib import AsyncExitStack
from datetime import timedelta

import msgspec

from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.history import PostgresHistory
from triplane.adapters.postgres.jobs import JobHandler
from triplane.adapters.postgres.jobs import run_worker as run_jobs
from triplane.adapters.postgres.purge import PostgresPurge
from triplane.adapters.postgres.search import PostgresSearch
from triplane.adapters.postgres.usage import PostgresUsage
from triplane.adapters.redis.announcements import RedisAnnouncer
from triplane.adapters.redis.hot_window import RedisHotWindow
from triplane.main.gateways import gateway_of
from triplane.main.parts import database_of, pipeline_of, required, told_to_stop, tracing_of
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.purging import purge_for_ever
from triplane.orchestration.searching import index_for_ever
from triplane.orchestration.summaries import SUMMARISE, SummaryDeps, SummaryJob, summarise
from triplane.orchestration.titles import TitleDeps, TitleJob, generate_title
from triplane.settings import Settings
from triplane.telemetry.logs import configure_logging
from triplane.telemetry.metrics import Metrics


async def run_worker(settings: Settings) -> None:
    """Work through the jobs until told to stop."""
    configure_logging(settings.log_level)
    async with AsyncExitStack() as stack:
        tracing_of(settings, "triplane-worker", stack)
        database = await database_of(settings, stack)
        pipeline = pipeline_of(settings, stack)
        gateway, usage = gateway_of(settings, Metrics(), pipeline, stack), PostgresUsage(database)
        stack.push_async_callback(usage.aclose)
        titles = TitleDeps(
            conversations=PostgresConversations(database),
            gateway=gateway,
            usage=usage,
            announcer=RedisAnnouncer(pipeline),
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
        purging = BackgroundTasks()
        kept = timedelta(hours=settings.deleted_kept_h)
        purging.start("purge", purge_for_ever(kept, PostgresPurge(database), RedisHotWindow(pipeline)))
        purging.start("index", index_for_ever(PostgresSearch(database)))
        stack.push_async_callback(purging.aclose, 0)
        await run_jobs(_listening_url(settings), handlers, told_to_stop())


def _listening_url(settings: Settings) -> str:
    """PostgreSQL's own address: the worker listens for jobs, which transaction pooling can't do."""
    if settings.database_pooled:
        return required(settings.database_direct_url, "TRIPLANE_DATABASE_DIRECT_URL")
    return required(settings.database_direct_url or settings.database_url, "TRIPLANE_DATABASE_URL")
