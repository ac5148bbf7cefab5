"""The bill and the job queue, in a real PostgreSQL."""

import asyncio
from typing import Any

import msgspec
import pytest
from store_examples import bill, new_turn, result

from gateways import engine_call
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.jobs import JobHandler, run_worker
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.adapters.postgres.usage import PostgresUsage
from triplane.domain.conversation import OpenedTurn, Principal, UsageEvent
from triplane.domain.errors import InvalidRequest
from triplane.domain.events import Usage
from triplane.domain.ids import new_id
from triplane.domain.money import EngineCall
from triplane.orchestration.ports import Job

PAYLOAD = b'{"conversation_id":"conv_1"}'
JOB = Job(entrypoint="generate_title", payload=PAYLOAD, dedupe_key="generate_title:conv_1")


@pytest.fixture
async def opened(database: Database, who: Principal) -> OpenedTurn:
    conversation = await PostgresConversations(database).create(who, None, {}, [])
    return await PostgresTurns(database).open(who, new_turn(conversation.id, "Hello"))


def usage_event(who: Principal, call: EngineCall) -> UsageEvent:
    return UsageEvent(
        id=new_id("usage"),
        tenant_id=who.tenant_id,
        user_id=who.user_id,
        request_id=new_id("req"),
        model="smollm2",
        call=call,
    )


def computed(prompt: int, completion: int, cached: int = 0, **fields: Any) -> EngineCall:
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)
    return engine_call(usage, **fields)


async def sums(database: Database) -> tuple[int, ...]:
    """Prompt, completion and cached tokens, and nano-dollars, of all that was billed."""
    row = await database.fetchrow(
        "SELECT sum(prompt_tokens) AS p, sum(completion_tokens) AS c, sum(cached_tokens) AS k, sum(cost) AS d"
        " FROM usage_events"
    )
    assert row is not None
    return tuple(map(int, row.values()))


async def test_the_same_usage_event_twice_is_one(database: Database, who: Principal) -> None:
    event = usage_event(who, computed(5, 4, 3, cost=7))
    usage = PostgresUsage(database)

    await usage.record([event])
    await usage.record([event, msgspec.structs.replace(event, id=new_id("usage"))])

    assert await database.fetchval("SELECT count(*) FROM usage_events") == 2
    assert await sums(database) == (10, 8, 6, 14)


async def test_a_turns_end_writes_a_line_for_each_of_its_engine_calls(
    database: Database, who: Principal, opened: OpenedTurn
) -> None:
    calls = [
        computed(5, 2, attempt=1, route="local", replica="http://a", cost=9),
        computed(7, 3, 6, attempt=3, route="cloud", replica="http://b", cost=2**40),
    ]
    turns = PostgresTurns(database)
    ended = msgspec.structs.replace(result(who, opened), usage_events=bill(who, opened, *calls))

    assert await turns.finish(who, ended)
    assert not await turns.finish(who, ended)

    rows = await database.fetch(
        "SELECT attempt, route, replica, prompt_tokens, completion_tokens, cached_tokens, cost"
        " FROM usage_events WHERE turn_id = $1 AND conversation_id = $2 AND user_id = $3 ORDER BY attempt",
        opened.turn_id,
        opened.conversation.id,
        who.user_id,
    )
    assert [tuple(row.values()) for row in rows] == [
        (1, "local", "http://a", 5, 2, 0, 9),
        (3, "cloud", "http://b", 7, 3, 6, 2**40),
    ]
    turn = await turns.get(who, opened.turn_id)
    assert turn.usage == Usage(prompt_tokens=12, completion_tokens=5, cached_tokens=6)


async def test_a_turn_without_an_engine_call_has_no_bill(
    database: Database, who: Principal, opened: OpenedTurn
) -> None:
    turns = PostgresTurns(database)

    await turns.finish(who, msgspec.structs.replace(result(who, opened), usage_events=[]))

    assert await database.fetchval("SELECT count(*) FROM usage_events") == 0
    assert (await turns.get(who, opened.turn_id)).usage == Usage()


async def test_events_of_one_moment_are_one_statement_and_each_caller_waits_for_its_own(
    database: Database, who: Principal
) -> None:
    statements: list[str] = []

    class Watched(Database):
        async def execute(self, sql: str, *arguments: object) -> str:
            statements.append(sql)
            return await database.execute(sql, *arguments)

    usage = PostgresUsage(Watched(database._pool))
    events = [usage_event(who, engine_call(Usage(prompt_tokens=number))) for number in range(20)]
    await asyncio.gather(*(usage.record([event]) for event in [*events, events[0]]))

    stored = await database.fetch("SELECT prompt_tokens FROM usage_events ORDER BY prompt_tokens")
    assert [row[0] for row in stored] == list(range(20))
    assert len(statements) == 1


async def test_an_event_that_cannot_be_stored_fails_alone(database: Database, who: Principal) -> None:
    usage = PostgresUsage(database)
    good = usage_event(who, engine_call(Usage(prompt_tokens=1)))
    bad = msgspec.structs.replace(usage_event(who, engine_call()), model="nul \0")
    kept, refused = await asyncio.gather(usage.record([good]), usage.record([bad]), return_exceptions=True)

    assert kept is None
    assert isinstance(refused, InvalidRequest)
    assert await database.fetchval("SELECT count(*) FROM usage_events") == 1


async def test_closing_waits_for_what_is_being_written(database: Database, who: Principal) -> None:
    usage = PostgresUsage(database)
    recording = asyncio.create_task(usage.record([usage_event(who, engine_call(Usage(prompt_tokens=1)))]))
    await asyncio.sleep(0)

    await usage.aclose()

    assert await database.fetchval("SELECT count(*) FROM usage_events") == 1
    await recording


@pytest.mark.parametrize("first", ["the new owner", "the old owner"])
async def test_an_attempt_that_two_owners_bill_is_billed_whole_and_once(
    database: Database, who: Principal, first: str
) -> None:
    whole = usage_event(who, computed(5, 4, 3, cost=40))
    logged = msgspec.structs.replace(whole, call=computed(5, 1, cost=10))
    unlogged = usage_event(who, computed(0, 2, cost=2, attempt=2))
    usage = PostgresUsage(database)
    if first == "the new owner":
        await usage.record([logged])
    await usage.record_attempt([whole, unlogged])
    await usage.record_attempt([whole, unlogged])
    await usage.record([logged])

    assert await sums(database) == (5, 6, 3, 42)


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
