"""The HTTP application over real stores, on a real socket. Only the engine is scripted."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import httpx
import pytest
import redis.asyncio
import uvicorn

from http_app import HttpApp
from triplane.adapters.postgres.accounts import PostgresAccounts
from triplane.adapters.postgres.audit_log import PostgresAuditLog
from triplane.adapters.postgres.branches import PostgresBranches
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.ended_access import PostgresEndedAccess
from triplane.adapters.postgres.history import PostgresHistory
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.adapters.postgres.usage import PostgresUsage
from triplane.adapters.postgres.user_settings import PostgresUserSettings
from triplane.adapters.redis.announcements import RedisAnnouncements, RedisAnnouncer
from triplane.adapters.redis.buckets import RedisBuckets
from triplane.adapters.redis.fleet_history import RedisFleetHistory
from triplane.adapters.redis.hot_window import RedisHotWindow
from triplane.adapters.redis.log_reader import LogReader
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.adapters.redis.replay_log import RedisReplayLog
from triplane.domain.events import Delta, EngineEvent, Finished, Started, Usage
from triplane.domain.limits import DEFAULT_PLAN
from triplane.domain.offers import CatalogueView
from triplane.inference.buckets import LEASE_S
from triplane.inference.catalogue import Catalogue, Model, Plan, Route
from triplane.inference.limit_policy import LimitPolicy
from triplane.inference.limits import Limiter
from triplane.inference.offers import catalogue_view
from triplane.inference.shared_buckets import SharedBuckets
from triplane.main.account_routes import account_handlers
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.bff.branches import BranchDeps, branch_handlers
from triplane.orchestration.bff.completions import CompletionDeps, completion_handlers
from triplane.orchestration.bff.deps import ASGIApp
from triplane.orchestration.bff.embeddings import embedding_handlers
from triplane.orchestration.bff.live_updates import live_update_handlers
from triplane.orchestration.bff.messages import messages_handlers
from triplane.orchestration.bff.summaries import summary_handlers
from triplane.orchestration.bff.turns import turn_handlers
from triplane.orchestration.embeddings import EmbeddingDeps
from triplane.orchestration.following import FollowDeps
from triplane.orchestration.stateless import StatelessDeps
from triplane.orchestration.turn import TurnDeps
from triplane.telemetry.metrics import Metrics
from turn_fakes import ScriptedGateway

ANSWER: list[EngineEvent] = [
    Started(engine="scripted", model="model"),
    Delta(text="Hello"),
    Finished(reason="stop", usage=Usage(prompt_tokens=4, completion_tokens=1)),
]


CATALOGUE = Catalogue(
    routes={"only": Route(engine="vllm", urls=["http://127.0.0.1:9"], context_length=1000)},
    models={"model": Model(routes=["only"], title="The model")},
    plans={"paid": Plan(weight=4.0, requests_per_minute=60)},
)


@dataclass(frozen=True)
class Served:
    """`url` has no path; `key` is the administrator's. With `leaving` done, the process is about to stop."""

    url: str
    key: str
    http_app: HttpApp
    gateway: ScriptedGateway
    limits: Limiter
    metrics: Metrics
    leaving: "asyncio.Future[None]"

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"authorization": f"Bearer {self.key}"})


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http="httptools", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        with suppress(TimeoutError):
            await asyncio.wait_for(task, 5)


@pytest.fixture
async def bff(
    database: Database, redis_client: redis.asyncio.Redis, redis_pipeline: RedisPipeline
) -> AsyncIterator[Served]:
    async with serving_bff(database, redis_client, redis_pipeline, LimitPolicy()) as served:
        yield served


@asynccontextmanager
async def serving_bff(
    database: Database, redis_client: redis.asyncio.Redis, pipeline: RedisPipeline, policy: LimitPolicy
) -> AsyncIterator[Served]:
    """The application with these limits, which are kept in that Redis."""
    conversations, turns = PostgresConversations(database), PostgresTurns(database)
    reader, announcer = LogReader(redis_client), RedisAnnouncer(pipeline)
    gateway, usage = ScriptedGateway(ANSWER), PostgresUsage(database)
    log = RedisReplayLog(pipeline, reader)
    running, metering, listening = BackgroundTasks(), BackgroundTasks(), BackgroundTasks()
    leaving = asyncio.get_running_loop().create_future()
    listening.start("reader", reader.run())
    metrics = Metrics({})
    limits = Limiter(SharedBuckets(RedisBuckets(pipeline, LEASE_S), metrics), policy, metrics)
    listening.start("limits", limits.run())
    turn = TurnDeps(
        conversations=conversations,
        turns=turns,
        hot_window=RedisHotWindow(pipeline),
        history=PostgresHistory(database),
        log=log,
        gateway=gateway,
        usage=usage,
        running=running,
        system_policy="Be brief.",
        owner="test",
        announcer=announcer,
        limits=limits,
    )
    follow = FollowDeps(turns=turns, log=log)
    stateless = StatelessDeps(gateway=gateway, usage=usage, metering=metering, limits=limits)

    async def catalogue() -> CatalogueView:
        return catalogue_view(CATALOGUE)

    http_app = HttpApp(
        accounts=PostgresAccounts(database),
        conversations=conversations,
        gateway=gateway,
        checks={"PostgreSQL": database.check},
        announcer=announcer,
        settings=PostgresUserSettings(database),
        audit=PostgresAuditLog(database),
        extra_handlers=[
            *account_handlers(database, turn, catalogue, RedisFleetHistory(pipeline), DEFAULT_PLAN),
            *completion_handlers(CompletionDeps(turn=turn, follow=follow, stateless=stateless)),
            *messages_handlers(stateless),
            *embedding_handlers(
                EmbeddingDeps(gateway=gateway, usage=usage, metering=metering, limits=limits)
            ),
            *turn_handlers(turn, follow, turns, leaving),
            *live_update_handlers(RedisAnnouncements(redis_client, reader), leaving),
            *branch_handlers(BranchDeps(turn=turn, follow=follow, branches=PostgresBranches(database))),
            *summary_handlers(turn.history),
        ],
    )
    listening.start("ended access", http_app.streams.run(PostgresEndedAccess(database).within))
    async with serving(http_app.build()) as url:
        yield Served(url, await http_app.new_key(), http_app, gateway, limits, metrics, leaving)
        if not leaving.done():
            leaving.set_result(None)
    await running.aclose(5)
    await metering.aclose(5)
    await listening.aclose(0)
