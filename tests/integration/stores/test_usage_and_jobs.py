"""The bill and the job queue, in a real PostgreSQL."""

import asyncio

import msgspec
import pytest
from store_examples import new_turn, result

from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.jobs import JobHandler, run_worker
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.adapters.postgres.usage import PostgresUsage
from triplane.domain.conversation import OpenedTurn, Principal, UsageEvent
from triplane.domain.errors import InvalidRequest
from triplane.domain.events import Usage
from triplane.domain.ids import new_id
from triplane.orchestration.ports import Job

PAYLOAD = b'{"conversation_id":"conv_1"}'
JOB = Job(entrypoint="generate_title", payload=PAYLOAD, dedupe_key="generate_title:conv_1")


@pytest.fixture
async def opened(database: Database, who: Principal) -> OpenedTurn:
    conversation = await PostgresConversations(database).create(who, None, {}, [])
    return await PostgresTurns(database).open(who, new_turn(conversation.id, "Hello"))


def usage_event(who: Principal, usage: Usage) -> UsageEvent:
    return UsageEvent(
        id=new_id("usage"),
        tenant_id=who.tenant_id,
        user_id=who.user_id,
        request_id=new_id("req"),
        model="smollm2",
        engine="test",
        usage=usage,
    )


async def test_the_same_usage_event_twice_is_one(database: Database, who: Principal) -> None:
    event = usage_event(who, Usage(prompt_tokens=5, completion_tokens=4, cached_tokens=3))
    usage = PostgresUsage(database)

    await usage.record(event)
    await usage.record(event)
    await usage.record(msgspec.structs.replace(event, id=new_id("usage")))

    sums = await database.fetchrow(
        "SELECT count(*) AS n, sum(prompt_tokens) AS p, sum(completion_tokens) AS c, sum(cached_tokens) AS k"
        " FROM usage_events"
    )
    assert sums is not None
    assert tuple(sums.values()) == (2, 10, 8, 6)


async def test_events_of_one_moment_are_one_statement_and_each_caller_waits_for_its_own(
    database: Database, who: Principal
) -> None:
    statements: list[str] = []

    class Watched(Database):
        async def execute(self, sql: str, *arguments: object) -> str:
            statements.append(sql)
            return await database.execute(sql, *arguments)

    usage = PostgresUsage(Watched(database._pool))
    events = [usage_event(who, Usage(prompt_tokens=number)) for number in range(20)]
    await asyncio.gather(*(usage.record(event) for event in [*events, events[0]]))

    stored = await database.fetch("SELECT prompt_tokens FROM usage_events ORDER BY prompt_tokens")
    assert [row[0] for row in stored] == list(range(20))
    assert len(statements) == 1


async def test_an_event_that_cannot_be_stored_fails_alone(database: Database, who: Principal) -> None:
    usage = PostgresUsage(database)
    good = usage_event(who, Usage(prompt_tokens=1))
    bad = msgspec.structs.replace(usage_event(who, Usage()), model="nul \0")
    kept, refused = await asyncio.gather(usage.record(good), usage.record(bad), return_exceptions=True)

    assert kept is None
    assert isinstance(refused, InvalidRequest)
    assert await database.fetchval("SELECT count(*) FROM usage_events") == 1


async def test_closing_waits_for_what_is_being_written(database: Database, who: Principal) -> None:
    usage = PostgresUsage(database)
    recording = asyncio.create_task(usage.record(usage_event(who, Usage(prompt_tokens=1))))
    await asyncio.sleep(0)

    await usage.aclose()

    assert await database.fetchval("SELECT count(*) FROM usage_events") == 1
    await recording


@pytest.mark.parametrize("first", ["the new owner", "the old owner"])
async def test_an_attempt_that_two_owners_bill_is_billed_whole_and_once(
    database: Database, who: Principal, first: str
) -> None:
    whole = usage_event(who, Usage(prompt_tokens=5, completion_tokens=4, cached_tokens=3))
    logged = msgspec.structs.replace(whole, usage=Usage(prompt_tokens=5, completion_tokens=1))
    usage = PostgresUsage(database)
    if first == "the new owner":
        await usage.record(logged)
    await usage.record_attempt(whole)
    await usage.record_attempt(whole)
    await usage.record(logged)

    sums = await database.fetchrow(
        "SELECT sum(prompt_tokens) AS p, sum(completion_tokens) AS c, sum(cached_tokens) AS k"
        " FROM usage_events"
    )
    assert sums is not None
    assert tuple(sums.values()) == (5, 4, 3)


async def test_finishing_a_turn_enqueues_its_job_once(
    database: Database, who: Principal, opened: OpenedTurn
) -> None:
    turns = PostgresTurns(database)

    await turns.finish(who, result(who, opened, jobs=[JOB]))
    await turns.finish(who, result(who, opened, jobs=[JOB]))

    rows = await database.fetch("SELECT entrypoint, payload FROM pgqueuer")
    assert [tuple(row.values()) for row in rows] == [("generate_title", PAYLOAD)]


async def test_a_worker_runs_what_a_turn_enqueued_while_it_listened(
    database: Database, postgres_url: str, who: Principal, opened: OpenedTurn
) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()
    stop = asyncio.Event()
    handlers = {"generate_title": JobHandler(run=received.put)}
    worker = asyncio.create_task(run_worker(postgres_url, handlers, stop))

    await PostgresTurns(database).finish(who, result(who, opened, jobs=[JOB]))

    assert await asyncio.wait_for(received.get(), 30) == PAYLOAD
    stop.set()
    await asyncio.wait_for(worker, 30)
    assert await database.fetchval("SELECT count(*) FROM pgqueuer") == 0


async def test_a_failed_job_comes_again_as_often_as_its_handler_allows(
    database: Database, postgres_url: str, who: Principal, opened: OpenedTurn
) -> None:
    await PostgresTurns(database).finish(who, result(who, opened, jobs=[JOB]))
    seen: list[bytes] = []
    done = asyncio.Event()

    async def fail_once(payload: bytes) -> None:
        seen.append(payload)
        if len(seen) == 1:
            raise OSError("the engine is away")
        done.set()

    stop = asyncio.Event()
    handlers = {"generate_title": JobHandler(run=fail_once, attempts=2)}
    worker = asyncio.create_task(run_worker(postgres_url, handlers, stop))

    await asyncio.wait_for(done.wait(), 60)

    stop.set()
    await asyncio.wait_for(worker, 30)
    assert seen == [PAYLOAD, PAYLOAD]


async def test_a_worker_whose_connection_is_cut_works_on(
    database: Database, postgres_url: str, who: Principal, opened: OpenedTurn
) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()
    stop = asyncio.Event()
    enqueue = "SELECT enqueue_job('generate_title', $1, $2)"
    await database.execute(enqueue, b"first", "first")
    handlers = {"generate_title": JobHandler(run=received.put)}
    worker = asyncio.create_task(run_worker(postgres_url, handlers, stop))
    assert await asyncio.wait_for(received.get(), 30) == b"first"

    cut = await database.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await database.execute(enqueue, b"second", "second")

    assert cut >= 1
    while await asyncio.wait_for(received.get(), 60) != b"second":
        pass  # a job that was cut off before it was marked done comes again
    stop.set()
    await asyncio.wait_for(worker, 30)
