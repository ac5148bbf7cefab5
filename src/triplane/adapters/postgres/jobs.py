"""The job worker: runs what transactions have enqueued, through pgqueuer.

It listens for notifications, so `url` is PostgreSQL's own and not PgBouncer's.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import structlog
from pgqueuer import PgQueuer
from pgqueuer.errors import PgqException
from pgqueuer.executors import DatabaseRetryEntrypointExecutor, EntrypointExecutorParameters
from pgqueuer.models import Job

_log = structlog.get_logger(__name__)

_CONNECT_TIMEOUT_S = 5.0
_STATEMENT_TIMEOUT_S = 30.0
_RECONNECT_S = 1.0
_POLL = timedelta(seconds=10)
"""How long a job waits at most if its notification is lost."""

_LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was cut in the middle of a statement
    asyncpg.PostgresError,
    PgqException,
)


@dataclass(frozen=True, kw_only=True)
class JobHandler:
    """Runs the jobs of one entrypoint. A job may come again after a crash, or, with `attempts`, a failure."""

    run: Callable[[bytes], Awaitable[None]]
    attempts: int = 1
    at_once: int = 2


async def run_worker(url: str, handlers: Mapping[str, JobHandler], stop: asyncio.Event) -> None:
    """Run jobs until `stop` is set; those that run then are let finish. Reconnects by itself."""
    while not stop.is_set():
        try:
            await _work(url, handlers, stop)
        except _LOST as exc:
            _log.warning("the job worker has lost the database", reason=type(exc).__name__)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _RECONNECT_S)


async def _work(url: str, handlers: Mapping[str, JobHandler], stop: asyncio.Event) -> None:
    """One connection's life."""
    connection = await asyncpg.connect(url, timeout=_CONNECT_TIMEOUT_S, command_timeout=_STATEMENT_TIMEOUT_S)
    queuer = PgQueuer.from_asyncpg_connection(connection)
    connection.add_termination_listener(lambda _: queuer.shutdown.set())
    for name, handler in handlers.items():
        _register(queuer, name, handler)
    stopping = asyncio.create_task(_pass_on(stop, queuer.shutdown))
    try:
        await queuer.qm.run(dequeue_timeout=_POLL, shutdown_on_listener_failure=True)
    finally:
        stopping.cancel()
        await connection.close(timeout=_CONNECT_TIMEOUT_S)


async def _pass_on(stop: asyncio.Event, shutdown: asyncio.Event) -> None:
    await stop.wait()
    shutdown.set()


def _register(queuer: PgQueuer, name: str, handler: JobHandler) -> None:
    async def run(job: Job) -> None:
        await handler.run(job.payload or b"")

    def with_retries(parameters: EntrypointExecutorParameters) -> DatabaseRetryEntrypointExecutor:
        return DatabaseRetryEntrypointExecutor(parameters=parameters, max_attempts=handler.attempts - 1)

    queuer.qm.entrypoint(name, concurrency_limit=handler.at_once, executor_factory=with_retries)(run)
