"""A turn of a conversation of 5,000 messages beside a new one; and what a turn asks of the stores.

The prompts of both hold as many messages, so that only the length differs. One is asked after the other in
the same round; ratios are taken within a round, and their median counts.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import aiohttp
import asyncpg
import redis.asyncio

from bench.against_nothing import idle_transactions, transactions
from bench.client import BenchFailed, complete, create_conversation, new_session
from bench.stack import Stack

LENGTH, WINDOW = 5000, 20
_ROUNDS, _COUNTED_TURNS = 30, 60
_QUESTION = [{"role": "user", "content": "How are you?"}]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Milliseconds in a new conversation and in a long one, and the ratio."""

    new_ms: float
    long_ms: float
    ratio: float


@dataclass(frozen=True, kw_only=True)
class LongConversation:
    """`compared` by what was done; the stores' own counts of what a turn of the long one asked of them."""

    compared: dict[str, Compared]
    postgres_transactions: float
    redis_commands: dict[str, float]


Work = Callable[[str], Awaitable[object]]


async def measure(stack: Stack) -> LongConversation:
    """Needs a stack whose engine costs nothing."""
    database = await asyncpg.connect(stack.database_url)
    async with new_session() as session, redis.asyncio.Redis.from_url(stack.redis_url) as client:
        new, long = [await _conversation(session, stack, database, length) for length in (WINDOW, LENGTH)]
        await database.execute("ANALYZE messages, turns, conversations")
        await database.close()

        async def turn(conversation_id: str) -> None:
            await complete(session, stack.planes, _QUESTION, max_tokens=1, conversation_id=conversation_id)

        async def cold_turn(conversation_id: str) -> None:
            async for key in client.scan_iter(f"window:*{conversation_id}*"):
                await client.delete(key)
            await turn(conversation_id)

        async def page(conversation_id: str) -> None:
            await _read_page(session, stack, conversation_id)

        works: dict[str, Work] = {"turn": turn, "turn, hot window lost": cold_turn, "page of 20": page}
        compared = {name: await _compare(work, new, long) for name, work in works.items()}
        commands = await _redis_commands(client, turn, long)
        return LongConversation(
            compared=compared,
            postgres_transactions=await _postgres_transactions(stack, session, turn, long),
            redis_commands=commands,
        )


async def _compare(work: Work, new: str, long: str) -> Compared:
    rounds: list[tuple[float, float]] = []
    for number in range(_ROUNDS + 3):
        times: dict[str, float] = {}
        for conversation_id in (new, long) if number % 2 else (long, new):
            started = perf_counter()
            await work(conversation_id)
            times[conversation_id] = (perf_counter() - started) * 1e3
        rounds.append((times[new], times[long]))
    counted = rounds[3:]
    return Compared(
        new_ms=median(each[0] for each in counted),
        long_ms=median(each[1] for each in counted),
        ratio=median(each[1] / each[0] for each in counted),
    )


async def _read_page(session: aiohttp.ClientSession, stack: Stack, conversation_id: str) -> None:
    url = f"{stack.planes.url}/conversations/{conversation_id}/messages?limit=20"
    async with session.get(url, headers={"authorization": f"Bearer {stack.planes.key}"}) as response:
        if response.status != 200:
            raise BenchFailed(f"no page of messages: {response.status} {await response.text()}")
        await response.read()


async def _postgres_transactions(
    stack: Stack, session: aiohttp.ClientSession, turn: Work, conversation_id: str
) -> float:
    """Each statement is a transaction and a round trip: nothing here spans several."""
    before, started = await transactions(stack, session), perf_counter()
    for _ in range(_COUNTED_TURNS):
        await turn(conversation_id)
    lasted = perf_counter() - started
    counted = await transactions(stack, session) - before
    return (counted - await idle_transactions(stack, session, lasted)) / _COUNTED_TURNS


async def _redis_commands(client: redis.asyncio.Redis, turn: Work, conversation_id: str) -> dict[str, float]:
    """What clients sent, by command; what a script does inside Redis is no round trip."""
    seen: Counter[str] = Counter()
    async with _watching(client, seen):
        for _ in range(_COUNTED_TURNS):
            await turn(conversation_id)
    return {name: count / _COUNTED_TURNS for name, count in seen.most_common() if count >= _COUNTED_TURNS / 4}


@asynccontextmanager
async def _watching(client: redis.asyncio.Redis, seen: Counter[str]) -> AsyncIterator[None]:
    async with client.monitor() as monitor:

        async def watch() -> None:
            async for command in monitor.listen():
                if command["client_type"] != "lua":
                    seen[command["command"].split(" ", 1)[0].upper()] += 1

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def _conversation(
    session: aiohttp.ClientSession, stack: Stack, database: asyncpg.Connection, length: int
) -> str:
    """So many messages, two in each turn, written straight into the database; the prompts held the newest."""
    made = await create_conversation(session, stack.planes, [])
    await database.execute(_ADD_TURNS, made, length, WINDOW - 1)
    await database.execute(_ADD_MESSAGES, made, length)
    await database.execute(
        "UPDATE conversations SET last_seq = $2::bigint, active_leaf = id || '_msg_' || $2::bigint"
        " WHERE id = $1",
        made,
        length,
    )
    return made


_ADD_TURNS = """
INSERT INTO turns (tenant_id, id, conversation_id, user_id, parent_id, message_id, request_id, body_sha256,
    model, state, ended_at, window_from_seq)
SELECT c.tenant_id, c.id || '_turn_' || n, c.id, c.user_id,
    CASE WHEN n > 1 THEN c.id || '_msg_' || 2 * n - 2 END, c.id || '_msg_' || 2 * n, c.id || '_req_' || n, '',
    'bench', 'complete', now(), greatest(1, 2 * n - $3::int)
FROM conversations c, generate_series(1, $2::int / 2) n WHERE c.id = $1"""

_ADD_MESSAGES = """
INSERT INTO messages (tenant_id, id, conversation_id, seq, parent_id, turn_id, role, status, content_json,
    token_count)
SELECT c.tenant_id, c.id || '_msg_' || n, c.id, n, CASE WHEN n > 1 THEN c.id || '_msg_' || n - 1 END,
    c.id || '_turn_' || (n + 1) / 2, CASE WHEN n % 2 = 1 THEN 'user' ELSE 'assistant' END, 'complete',
    to_json(repeat('word ', 10)), 12
FROM conversations c, generate_series(1, $2::int) n WHERE c.id = $1"""
