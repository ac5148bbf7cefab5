"""Windows and summaries in a real PostgreSQL and Redis: what is rebuilt equals what was lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest
import redis.asyncio
from store_examples import new_turn, result

from servers import add_user
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.history import PostgresHistory
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.adapters.postgres.usage import PostgresUsage
from triplane.adapters.redis.hot_window import RedisHotWindow
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.completion import CompletionRequest, Message, Sampling, text_of
from triplane.domain.conversation import OpenedTurn, Principal, Summary
from triplane.domain.errors import NotFound, StoreUnavailable
from triplane.domain.events import Delta, Finished, Started, Usage
from triplane.domain.ids import new_id
from triplane.orchestration.asks import Ask
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.history_ports import Window
from triplane.orchestration.summaries import SummaryDeps, SummaryJob, summarise
from triplane.orchestration.turn import TurnDeps, accept_turn
from turn_fakes import MemoryLog, ScriptedGateway

END_S = 30


@pytest.fixture
def history(database: Database) -> PostgresHistory:
    return PostgresHistory(database)


@pytest.fixture
def turns(database: Database) -> PostgresTurns:
    return PostgresTurns(database)


@pytest.fixture
async def conversation_id(database: Database, who: Principal) -> str:
    return (await PostgresConversations(database).create(who, None, {}, [])).id


def summary(from_message_id: str, upto_seq: int) -> Summary:
    return Summary(
        from_message_id=from_message_id,
        upto_seq=upto_seq,
        text=f"All up to {upto_seq}.",
        token_count=9,
        created_at=datetime.now(UTC),
    )


class Talk:
    """Turns over the real stores, before a scripted model of 400 tokens whose tokens are words."""

    def __init__(
        self,
        who: Principal,
        conversation_id: str,
        database: Database,
        client: redis.asyncio.Redis,
        pipeline: RedisPipeline,
    ) -> None:
        self.who, self.conversation_id, self.database = who, conversation_id, database
        self.gateway = ScriptedGateway(context_length=400)
        self.hot_window, self.history = RedisHotWindow(pipeline), PostgresHistory(database)
        self.client = client
        self.leaf = ""
        self.deps = TurnDeps(
            conversations=PostgresConversations(database),
            turns=PostgresTurns(database),
            hot_window=self.hot_window,
            history=self.history,
            log=MemoryLog(),
            gateway=self.gateway,
            usage=PostgresUsage(database),
            running=BackgroundTasks(),
            system_policy="Be kind.",
            owner="me",
        )

    async def turn(self, text: str, answer: str = "One two three.") -> list[Message]:
        """One turn to its end; the prompt that it sent."""
        usage = Usage(prompt_tokens=1, completion_tokens=len(answer.split()))
        self.gateway.events = [
            Started(engine="scripted", model="model"),
            Delta(text=answer),
            Finished(reason="stop", usage=usage),
        ]
        opened = await accept_turn(self._ask(text), self.deps)
        await self.deps.running.aclose(END_S)
        self.leaf = opened.message_id
        return self.gateway.requests[-1].messages

    def _ask(self, text: str) -> Ask:
        request_id = new_id("req")
        return Ask(
            who=self.who,
            conversation_id=self.conversation_id,
            request_id=request_id,
            body_sha256=b"",
            template=CompletionRequest(
                request_id=request_id,
                model="model",
                messages=[Message(role="user", content=text)],
                sampling=Sampling(max_tokens=50),
            ),
            system=[],
        )

    async def work(self) -> int:
        """Run the summaries that wait in the queue."""
        rows = await self.database.fetch(
            "DELETE FROM pgqueuer WHERE entrypoint = 'summarise' RETURNING payload"
        )
        deps = SummaryDeps(history=self.history, gateway=self.gateway, usage=PostgresUsage(self.database))
        for row in rows:
            await summarise(msgspec.json.decode(row["payload"], type=SummaryJob), deps)
        return len(rows)

    async def cached(self) -> Window | None:
        return await self.hot_window.get(self.who.tenant_id, self.conversation_id)

    async def rebuilt(self) -> Window:
        return await self.history.window(self.who, self.conversation_id, self.leaf)


@pytest.fixture
async def talk(
    who: Principal,
    conversation_id: str,
    database: Database,
    redis_client: redis.asyncio.Redis,
    redis_pipeline: RedisPipeline,
) -> AsyncIterator[Talk]:
    made = Talk(who, conversation_id, database, redis_client, redis_pipeline)
    yield made
    await made.deps.running.aclose(END_S)


async def test_what_is_rebuilt_equals_what_was_cached_over_cuts_and_summaries(talk: Talk) -> None:
    cuts, summaries, last = 0, 0, await talk.turn("Hello " * 30, "word " * 20)
    for number in range(30):
        window = await talk.cached()
        assert window == await talk.rebuilt()
        if number % 3 == 0:
            await talk.client.flushall()
        prompt = await talk.turn(f"q{number} ü " * 15, f"a{number} " * 20)
        if not msgspec.json.encode(prompt).startswith(msgspec.json.encode(last)[:-1]):
            cuts += 1
            assert "Notes on what was said earlier" in text_of(prompt[0].content)
        last = prompt
        summaries += await talk.work()
    assert cuts > 5
    assert summaries >= cuts
    shown = await talk.history.active_summary(talk.who, talk.conversation_id)
    assert shown
    assert text_of(last[0].content).endswith(shown.text)


async def test_a_turn_that_could_not_read_its_history_leaves_it_whole(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await talk.turn("My name is Ann.")
    # On the connection that the window was put by, so behind it: another one's flush may come before.
    await talk.hot_window.drop(talk.who.tenant_id, talk.conversation_id)

    async def away(*_: object) -> Window:
        raise StoreUnavailable("The database is away.")

    with monkeypatch.context() as patched:
        patched.setattr(talk.history, "window", away)
        await talk.turn("Who am I?")
    prompt = await talk.turn("And now?")

    assert [text_of(message.content) for message in prompt][1:] == [
        "My name is Ann.",
        "One two three.",
        "Who am I?",
        "And now?",
    ]


async def finished(
    turns: PostgresTurns,
    who: Principal,
    conversation_id: str,
    parent_id: str | None = None,
    *,
    from_seq: int | None = None,
    told: str | None = None,
) -> OpenedTurn:
    new = msgspec.structs.replace(new_turn(conversation_id, "Hello"), parent_id=parent_id or msgspec.UNSET)
    opened = await turns.open(who, new)
    await turns.finish(who, result(who, opened, window_from_seq=from_seq, window_summary=told))
    return opened


async def test_each_branch_has_its_own_window_and_summary(
    turns: PostgresTurns, history: PostgresHistory, who: Principal, conversation_id: str
) -> None:
    first = await finished(turns, who, conversation_id)
    second = await finished(turns, who, conversation_id)
    made = summary(second.input_messages[0].id, 2)
    await history.add_summary(who, conversation_id, made)
    cut = await finished(turns, who, conversation_id, from_seq=3, told=made.from_message_id)
    branch = await finished(turns, who, conversation_id, first.message_id)

    after_cut = await history.window(who, conversation_id, cut.message_id)
    on_branch = await history.window(who, conversation_id, branch.message_id)

    assert ([row.seq for row in after_cut.messages], after_cut.summary) == ([3, 4, 5, 6], made)
    assert ([row.seq for row in on_branch.messages], on_branch.summary) == ([1, 2, 7, 8], None)
    assert await history.active_summary(who, conversation_id) is None, "the branch was answered last"


async def test_a_turn_begins_where_the_one_before_it_began(
    turns: PostgresTurns, history: PostgresHistory, who: Principal, conversation_id: str
) -> None:
    first = await finished(turns, who, conversation_id)
    made = summary(first.input_messages[0].id, 0)
    await history.add_summary(who, conversation_id, made)
    cut = await finished(turns, who, conversation_id, from_seq=3, told=made.from_message_id)

    failed_early = await finished(turns, who, conversation_id, cut.message_id)
    running = await turns.open(who, new_turn(conversation_id, "Still", parent_id=failed_early.message_id))

    for leaf in (failed_early.message_id, running.message_id):
        window = await history.window(who, conversation_id, leaf)
        assert (window.messages[0].seq, window.summary) == (3, made)
    assert await history.active_summary(who, conversation_id) == made


async def test_a_summary_never_changes(
    turns: PostgresTurns, history: PostgresHistory, who: Principal, conversation_id: str
) -> None:
    opened = await finished(turns, who, conversation_id)
    made = summary(opened.message_id, 1)
    other = msgspec.structs.replace(made, text="Something else.")

    await asyncio.gather(*(history.add_summary(who, conversation_id, each) for each in (made, other)))

    kept = await history.newest_summary(who, conversation_id, [opened.message_id])
    await history.add_summary(who, conversation_id, other)
    assert kept in (made, other)
    assert await history.newest_summary(who, conversation_id, [opened.message_id]) == kept


async def test_what_is_to_be_summarised_ends_at_the_summary_before(
    turns: PostgresTurns, history: PostgresHistory, who: Principal, conversation_id: str
) -> None:
    opened = [await finished(turns, who, conversation_id) for _ in range(4)]
    starts = [each.input_messages[0].id for each in opened]

    everything = await history.unsummarised(who, conversation_id, starts[3], 100)
    await history.add_summary(who, conversation_id, summary(starts[1], 2))
    rest = await history.unsummarised(who, conversation_id, starts[3], 100)
    bounded = await history.unsummarised(who, conversation_id, starts[3], 2)
    done = await history.unsummarised(who, conversation_id, starts[1], 100)

    assert ([row.seq for row in everything.messages], everything.previous) == ([1, 2, 3, 4, 5, 6], None)
    assert [row.seq for row in rest.messages] == [3, 4, 5, 6]
    assert rest.previous
    assert rest.previous.upto_seq == 2
    assert ([row.seq for row in bounded.messages], bounded.previous) == ([5, 6], None)
    assert done.messages == []


async def test_nobody_else_sees_a_window_or_a_summary(
    turns: PostgresTurns, history: PostgresHistory, database: Database, who: Principal, conversation_id: str
) -> None:
    opened = await finished(turns, who, conversation_id)
    await history.add_summary(who, conversation_id, summary(opened.message_id, 1))
    for other in (await add_user(database), await add_user(database, who.tenant_id)):
        with pytest.raises(NotFound):
            await history.window(other, conversation_id, opened.message_id)
        with pytest.raises(NotFound):
            await history.active_summary(other, conversation_id)
        with pytest.raises(NotFound):
            await history.unsummarised(other, conversation_id, opened.message_id, 10)
        assert await history.newest_summary(other, conversation_id, [opened.message_id]) is None
        await history.add_summary(other, conversation_id, summary(opened.input_messages[0].id, 0))
    assert await database.fetchval("SELECT count(*) FROM summaries") == 1
