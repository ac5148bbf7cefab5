"""A conversation of 5,000 messages costs what a short one costs, counted in the blocks it touches."""

import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import pytest
from store_examples import held_by, new_turn, result

from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.history import PostgresHistory
from triplane.adapters.postgres.pool import Database, open_database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.domain.conversation import Principal, Summary
from triplane.orchestration.ports import NewTurn

LONG, SHORT, WINDOW = 5000, 40, 20


class Counting:
    """A `Database` that first explains each statement, and undoes that, for the blocks it touches."""

    def __init__(self, database: Database, plan_cache_mode: str) -> None:
        self._database = database
        self._mode = plan_cache_mode
        self.blocks = 0
        self.sequential: list[str] = []

    async def fetch(self, sql: str, *arguments: object) -> Sequence[asyncpg.Record]:
        await self._explain(sql, arguments)
        return await self._database.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        await self._explain(sql, arguments)
        return await self._database.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        await self._explain(sql, arguments)
        return await self._database.fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: object) -> str:
        await self._explain(sql, arguments)
        return await self._database.execute(sql, *arguments)

    async def _explain(self, sql: str, arguments: tuple[object, ...]) -> None:
        """The second time counts: in the first, functions plan what is in them."""
        plan: dict[str, Any] = {}
        async with self._database.connection() as connection:
            for _ in range(2):
                undo = connection.transaction()
                await undo.start()
                await connection.execute(f"SET LOCAL plan_cache_mode = {self._mode}")
                told = await connection.fetchval(
                    f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {sql}", *arguments
                )
                await undo.rollback()
                plan = json.loads(told)[0]["Plan"]
        self.blocks += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        self.sequential += _sequential_scans(plan)


def _sequential_scans(plan: dict[str, Any]) -> list[str]:
    own = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" else []
    return own + [name for part in plan.get("Plans", []) for name in _sequential_scans(part)]


class Stores:
    def __init__(self, database: Counting) -> None:
        self.counting = database
        self.conversations = PostgresConversations(database)  # type: ignore[arg-type]
        self.turns = PostgresTurns(database)  # type: ignore[arg-type]
        self.history = PostgresHistory(database)  # type: ignore[arg-type]

    async def cost(self, work: Awaitable[object]) -> int:
        before = self.counting.blocks
        await work
        return self.counting.blocks - before


_ADD_TURNS = """
INSERT INTO turns (tenant_id, id, conversation_id, user_id, parent_id, message_id, request_id, body_sha256,
    model, state, ended_at, window_from_seq, window_summary)
SELECT $1, $3 || '_turn_' || n, $3, $2, CASE WHEN n > 1 THEN $3 || '_msg_' || 2 * n - 2 END,
    $3 || '_msg_' || 2 * n, $3 || '_req_' || n, '', 'smollm2', 'complete', now(),
    greatest(1, 2 * n - $5::int), CASE WHEN 2 * n > $5 THEN $3 || '_msg_' || 2 * n - $5::int END
FROM generate_series(1, $4 / 2) n"""

_ADD_MESSAGES = """
INSERT INTO messages (tenant_id, id, conversation_id, seq, parent_id, turn_id, role, status, content_json,
    token_count)
SELECT $1, $2 || '_msg_' || n, $2, n, CASE WHEN n > 1 THEN $2 || '_msg_' || n - 1 END,
    $2 || '_turn_' || (n + 1) / 2, CASE WHEN n % 2 = 1 THEN 'user' ELSE 'assistant' END, 'complete',
    to_json(repeat('word ', 40)), 42
FROM generate_series(1, $3::int) n"""


async def conversation_of(database: Database, who: Principal, length: int) -> str:
    """So many messages, two in each turn; the last turns' prompts held the newest `WINDOW` of them."""
    made = await PostgresConversations(database).create(who, None, {}, [])
    await database.execute(_ADD_TURNS, who.tenant_id, who.user_id, made.id, length, WINDOW - 1)
    await database.execute(_ADD_MESSAGES, who.tenant_id, made.id, length)
    await database.execute(
        "UPDATE conversations SET last_seq = $3::bigint, active_leaf = id || '_msg_' || $3::bigint"
        " WHERE tenant_id = $1 AND id = $2",
        who.tenant_id,
        made.id,
        length,
    )
    await PostgresHistory(database).add_summary(
        who,
        made.id,
        Summary(
            from_message_id=message(made.id, length - WINDOW + 1),
            upto_seq=length - WINDOW,
            text="What was said.",
            token_count=9,
            created_at=datetime.now(UTC),
        ),
    )
    return made.id


def message(conversation_id: str, seq: int) -> str:
    return f"{conversation_id}_msg_{seq}"


@pytest.fixture(params=["auto", "force_generic_plan"])
async def stores(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[Stores]:
    database = await open_database(postgres_url, size=1)
    yield Stores(Counting(database, request.param))
    await database.close()


async def _turn(stores: Stores, who: Principal, conversation_id: str, _: int) -> None:
    new = _follow_up(conversation_id)
    opened = await stores.turns.open(who, new)
    again = await stores.turns.open(who, new)
    await stores.turns.renew(held_by(who, opened), "Some text", 3)
    await stores.turns.claim_lapsed("me", 16)
    await stores.turns.get(who, opened.turn_id)
    await stores.turns.finish(who, result(who, opened, window_from_seq=opened.draft_seq - WINDOW))
    assert again.turn_id == opened.turn_id
    assert len(again.input_messages) == 1


def _follow_up(conversation_id: str) -> NewTurn:
    return msgspec.structs.replace(new_turn(conversation_id, "Go on."), parent_id=msgspec.UNSET)


async def _pages(stores: Stores, who: Principal, conversation_id: str, length: int) -> None:
    for after in (0, length // 2, length - 10):
        rows, _ = await stores.conversations.messages(who, conversation_id, after, 10)
        assert len(rows) == 10


async def _open(stores: Stores, who: Principal, conversation_id: str, _: int) -> None:
    await stores.conversations.get(who, conversation_id)
    await stores.conversations.list_page(who, None, 20)
    await stores.history.active_summary(who, conversation_id)


async def _window(stores: Stores, who: Principal, conversation_id: str, length: int) -> None:
    window = await stores.history.window(who, conversation_id, message(conversation_id, length))
    assert len(window.messages) == WINDOW
    assert window.summary
    ids = [row.id for row in window.messages]
    assert await stores.history.newest_summary(who, conversation_id, ids)


async def _old_branch(stores: Stores, who: Principal, conversation_id: str, length: int) -> None:
    leaf = message(conversation_id, length // 2)
    window = await stores.history.window(who, conversation_id, leaf)
    assert 10 <= len(window.messages) <= WINDOW
    path = await stores.conversations.path(who, conversation_id, leaf, length // 2 - 9)
    assert len(path) == 10


async def _summary(stores: Stores, who: Principal, conversation_id: str, length: int) -> None:
    todo = await stores.history.unsummarised(who, conversation_id, message(conversation_id, length - 5), 1000)
    assert len(todo.messages) == WINDOW - 6
    assert todo.previous


async def test_a_long_conversation_costs_what_a_short_one_costs(
    stores: Stores, database: Database, who: Principal
) -> None:
    for _ in range(20):
        await conversation_of(database, who, SHORT)
    short = await conversation_of(database, who, SHORT)
    long = await conversation_of(database, who, LONG)
    await database.execute("ANALYZE")

    costs = {}
    for work in (_open, _pages, _window, _old_branch, _summary, _turn):
        in_short = await stores.cost(work(stores, who, short, SHORT))
        costs[work.__name__] = (in_short, await stores.cost(work(stores, who, long, LONG)))

    grown = {name: cost for name, cost in costs.items() if cost[1] > cost[0] * 1.25 + 4}
    assert not grown, costs
    assert not {"messages", "turns"} & set(stores.counting.sequential)
