"""The API process: every port of the turn, behind one HTTP application."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from triplane.adapters.http_server import cancelled_by_signals, serve_http
from triplane.adapters.objects import open_objects
from triplane.adapters.postgres.accounts import PostgresAccounts
from triplane.adapters.postgres.audit_log import PostgresAuditLog
from triplane.adapters.postgres.branches import PostgresBranches
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.ended_access import PostgresEndedAccess
from triplane.adapters.postgres.history import PostgresHistory
from triplane.adapters.postgres.projects import PostgresProjects
from triplane.adapters.postgres.search import PostgresSearch
from triplane.adapters.postgres.shares import PostgresShares
from triplane.adapters.postgres.transfer import PostgresTransfer
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.adapters.postgres.usage import PostgresUsage
from triplane.adapters.postgres.user_settings import PostgresUserSettings
from triplane.adapters.redis.announcements import RedisAnnouncements, RedisAnnouncer
from triplane.adapters.redis.connection import check_redis, open_redis
from triplane.adapters.redis.fleet_history import RedisFleetHistory
from triplane.adapters.redis.hot_window import RedisHotWindow
from triplane.adapters.redis.log_reader import LogReader
from triplane.adapters.redis.replay_log import RedisReplayLog
from triplane.adapters.redis.signals import RedisStopSignals
from triplane.domain.fleet import RouteView
from triplane.experience.web_app import WebApp
from triplane.inference.service.rpc.client import RemoteGateway
from triplane.main.account_routes import account_handlers
from triplane.main.gateways import gateway_of
from triplane.main.parts import (
    database_of,
    limiter_of,
    pipeline_of,
    required,
    shared_buckets,
    tracing_of,
)
from triplane.orchestration.accounts.api_keys import ApiKeys
from triplane.orchestration.accounts.last_seen import LastSeen
from triplane.orchestration.accounts.open_streams import OpenStreams
from triplane.orchestration.accounts.plans import plan_of_user
from triplane.orchestration.accounts.sessions import Sessions
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.bff.app import create_app
from triplane.orchestration.bff.branches import BranchDeps, branch_handlers
from triplane.orchestration.bff.completions import CompletionDeps, completion_handlers
from triplane.orchestration.bff.deps import AppDeps, ASGIApp
from triplane.orchestration.bff.embeddings import embedding_handlers
from triplane.orchestration.bff.fleet import fleet_handlers
from triplane.orchestration.bff.live_updates import live_update_handlers
from triplane.orchestration.bff.messages import messages_handlers
from triplane.orchestration.bff.projects import project_handlers
from triplane.orchestration.bff.search import search_handlers
from triplane.orchestration.bff.shares import share_handlers
from triplane.orchestration.bff.summaries import summary_handlers
from triplane.orchestration.bff.transfer import transfer_handlers
from triplane.orchestration.bff.turns import turn_handlers
from triplane.orchestration.embeddings import EmbeddingDeps
from triplane.orchestration.following import FollowDeps
from triplane.orchestration.recovery import recover_turns
from triplane.orchestration.stateless import StatelessDeps
from triplane.orchestration.turn import STOP, TurnDeps
from triplane.settings import Settings
from triplane.telemetry.logs import configure_logging
from triplane.telemetry.metrics import Metrics
from triplane.telemetry.requests import RequestTelemetry

SYSTEM_POLICY = "You are a helpful assistant. Answer clearly and to the point."
GRACE_S = 3.0
"""How long running requests and turns may go on once the process is told to stop."""


@asynccontextmanager
async def open_api(settings: Settings, leaving: "asyncio.Future[None]") -> AsyncIterator[ASGIApp]:
    """The whole HTTP application, with everything behind it open.

    `leaving` is to be done once the process is told to stop: streams that are followed elsewhere end then.

    Raises SettingsError, StoreUnavailable and MigrationError (a database that this program can't serve).
    """
    async with AsyncExitStack() as stack:
        tracing = tracing_of(settings, "triplane-api", stack)
        metrics = Metrics()
        database = await database_of(settings, stack)
        redis = open_redis(required(settings.redis_url, "TRIPLANE_REDIS_URL"))
        stack.push_async_callback(redis.aclose)
        pipeline = pipeline_of(settings, stack)
        objects = open_objects(settings.objects_url, settings.data_dir)
        gateway = gateway_of(settings, metrics, pipeline, stack)
        turns, conversations = PostgresTurns(database), PostgresConversations(database)
        stack.push_async_callback(turns.aclose)
        reader = LogReader(redis)
        log, usage = RedisReplayLog(pipeline, reader), PostgresUsage(database)
        stack.push_async_callback(usage.aclose)
        history = PostgresHistory(database)
        limits = limiter_of(settings, shared_buckets(pipeline, metrics), metrics, stack)
        plan_of = plan_of_user(settings.default_plan)
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

        fleet_history, streams, last_seen = RedisFleetHistory(pipeline), OpenStreams(), LastSeen()
        # Workers that share a gateway see the same fleet.
        fleet_seen_by = settings.gateway.address or process
        looking = BackgroundTasks()
        looking.start("fleet history", fleet_history.run(fleet_seen_by, fleet))
        looking.start("ended access", streams.run(PostgresEndedAccess(database).within))
        looking.start("last seen", last_seen.run(accounts))
        stack.push_async_callback(looking.aclose, 0)

        app = create_app(
            AppDeps(
                conversations=conversations,
                gateway=gateway,
                sessions=Sessions(accounts, required(settings.secret, "TRIPLANE_SECRET")),
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
                default_plan=settings.default_plan,
                settings=PostgresUserSettings(database),
                audit=PostgresAuditLog(database),
                streams=streams,
                last_seen=last_seen,
            ),
            [
                *account_handlers(database, turn, gateway.catalogue, fleet_history, settings.default_plan),
                *completion_handlers(
                    CompletionDeps(turn=turn, follow=follow, stateless=stateless, plan_of=plan_of)
                ),
                *messages_handlers(stateless, plan_of),
                *embedding_handlers(
                    EmbeddingDeps(gateway=gateway, usage=usage, metering=metering, limits=limits), plan_of
                ),
                *turn_handlers(turn, follow, turns, leaving),
                *live_update_handlers(RedisAnnouncements(redis, reader), leaving),
                *branch_handlers(BranchDeps(turn=turn, follow=follow, branches=branches, plan_of=plan_of)),
                *summary_handlers(history),
                *project_handlers(PostgresProjects(database), announcer),
                *search_handlers(PostgresSearch(database)),
                *share_handlers(PostgresShares(database)),
                *transfer_handlers(PostgresTransfer(database), announcer),
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
