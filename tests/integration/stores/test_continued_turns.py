"""Answers that go on and questions answered again, over the real stores, before a scripted engine."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import redis.asyncio
import redis.exceptions

from triplane.adapters.postgres.branches import PostgresBranches
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.history import PostgresHistory
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.adapters.postgres.usage import PostgresUsage
from triplane.adapters.redis.hot_window import RedisHotWindow
from triplane.adapters.redis.log_reader import LogReader
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.adapters.redis.replay_log import RedisReplayLog
from triplane.domain.completion import CompletionRequest, Flow, Message, Sampling, text_of
from triplane.domain.conversation import (
    ConversationSettings,
    OpenedTurn,
    Principal,
    StoredMessage,
    TurnRecord,
)
from triplane.domain.errors import Conflict, EngineUnavailable, InvalidRequest
from triplane.domain.events import Delta, EngineEvent, Finished, FinishReason, LogEntry, Started, Usage
from triplane.domain.ids import new_id
from triplane.orchestration.asks import Ask
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.bff.turn_object import present_details
from triplane.orchestration.branching import Another, continue_turn, regenerate_turn
from triplane.orchestration.conversation_ports import ConversationChange
from triplane.orchestration.following import FollowDeps, follow_turn
from triplane.orchestration.recovery import take_over_lapsed
from triplane.orchestration.turn import TurnDeps, accept_turn
from turn_fakes import ScriptedGateway

END_S = 20


def events(*texts: str, reason: FinishReason = "length") -> list[EngineEvent]:
    usage = Usage(prompt_tokens=10, completion_tokens=len(texts))
    return [
        Started(engine="scripted", model="model"),
        *(Delta(text=text) for text in texts),
        Finished(reason=reason, usage=usage),
    ]


class Worker:
    """A process that runs turns of one conversation."""

    def __init__(
        self,
        who: Principal,
        conversation_id: str,
        database: Database,
        client: redis.asyncio.Redis,
        pipeline: RedisPipeline,
    ) -> None:
        self.who, self.conversation_id, self.database = who, conversation_id, database
        self.gateway = ScriptedGateway(events("Once", " upon"))
        self.client, self.reader, self.pipeline = client, LogReader(client), pipeline
        self.branches = PostgresBranches(database)
        self.deps = TurnDeps(
            conversations=PostgresConversations(database),
            turns=PostgresTurns(database),
            hot_window=RedisHotWindow(pipeline),
            history=PostgresHistory(database),
            log=RedisReplayLog(pipeline, self.reader),
            gateway=self.gateway,
            usage=PostgresUsage(database),
            running=BackgroundTasks(),
            system_policy="Be kind.",
            owner=new_id("req"),
        )

    def another(self) -> "Worker":
        return Worker(self.who, self.conversation_id, self.database, self.client, self.pipeline)

    async def accept(self, text: str = "Tell.", request_id: str | None = None) -> OpenedTurn:
        template = CompletionRequest(
            request_id=new_id("req"),
            model="model",
            messages=[Message(role="user", content=text)],
            sampling=Sampling(max_tokens=20, temperature=0),
        )
        ask = Ask(
            who=self.who,
            conversation_id=self.conversation_id,
            request_id=request_id or new_id("req"),
            body_sha256=hashlib.sha256(text.encode()).digest(),
            template=template,
            system=[Message(role="system", content="Rhyme.")],
        )
        return await accept_turn(ask, self.deps)

    async def told(self, text: str = "Tell.") -> str:
        """A turn that has ended."""
        opened = await self.accept(text)
        await self.followed(opened.turn_id)
        return opened.turn_id

    async def go_on(self, turn_id: str, *texts: str) -> list[LogEntry]:
        self.gateway.events = events(*texts)
        answered = await continue_turn(self.who, turn_id, 5, Flow(), self.deps, self.branches)
        return await self.followed(turn_id, answered.log_position)

    async def followed(self, turn_id: str, after: int = 0) -> list[LogEntry]:
        deps = FollowDeps(turns=self.deps.turns, log=self.deps.log)
        async with asyncio.timeout(END_S):
            return [entry async for entry in follow_turn(self.who, turn_id, after, deps)]

    async def turn(self, turn_id: str) -> TurnRecord:
        return await self.deps.turns.get(self.who, turn_id)

    async def rows(self) -> list[StoredMessage]:
        return (await self.deps.conversations.messages(self.who, self.conversation_id, 0, 100))[0]


@pytest.fixture
async def worker(
    database: Database, redis_client: redis.asyncio.Redis, redis_pipeline: RedisPipeline, who: Principal
) -> AsyncIterator[Worker]:
    made = await PostgresConversations(database).create(who, None, {}, [])
    worker = Worker(who, made.id, database, redis_client, redis_pipeline)
    reading = asyncio.create_task(worker.reader.run())
    yield worker
    await worker.deps.running.aclose(5)
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading


async def test_a_continuation_asks_for_the_rest_of_the_same_answer(worker: Worker) -> None:
    turn_id = await worker.told()

    new = await worker.go_on(turn_id, " a", " time")

    first, second = worker.gateway.requests
    assert second.continue_final_message
    assert second.messages == [*first.messages, Message(role="assistant", content="Once upon")]
    assert second.sampling == Sampling(max_tokens=5, temperature=0)
    assert [entry.event for entry in new[:2]] == [Delta(text=" a"), Delta(text=" time")]
    assert (await worker.turn(turn_id)).content == "Once upon a time"


async def test_an_answer_stays_though_its_continuation_fails_at_the_instructions(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ConversationSettings(instructions="Rhyme like a sailor.")
    marks = ConversationChange(settings=settings)
    await worker.deps.conversations.update(worker.who, worker.conversation_id, None, None, marks=marks)
    turn_id = await worker.told()
    count = worker.gateway.count_tokens

    async def fails_at_instructions(model: str, messages: Sequence[Message]) -> list[int]:
        if [message.content for message in messages] == [settings.instructions]:
            raise EngineUnavailable("The engine is away.")
        return await count(model, messages)

    monkeypatch.setattr(worker.gateway, "count_tokens", fails_at_instructions)
    await worker.go_on(turn_id, " a", " time")

    assert (await worker.turn(turn_id)).content == "Once upon"
    assert (await worker.rows())[-1].content == "Once upon"


async def test_each_part_of_a_continued_answer_was_answered_by_its_call(worker: Worker) -> None:
    turn_id = await worker.told()
    await worker.go_on(turn_id, " a", " time")

    shown = present_details(await PostgresTurns(worker.database).details(worker.who, turn_id))

    assert [call.outcome for call in shown.calls] == ["answered", "answered"]


def text(entries: list[LogEntry]) -> str:
    return "".join(entry.event.text for entry in entries if isinstance(entry.event, Delta))


async def test_a_lost_log_is_written_anew_where_no_client_takes_it_for_the_old_one(worker: Worker) -> None:
    turn_id = await worker.told()
    old = await worker.followed(turn_id)
    await worker.client.flushall()

    new = await worker.go_on(turn_id, " a", " time")

    assert text(new) == " a time"
    other = worker.another()
    resumed = await other.followed(turn_id, after=old[-1].position)
    assert resumed[0].position > old[-1].position + 1
    whole = await other.followed(turn_id)
    first = whole[0].position
    assert [entry.position for entry in whole] == list(range(first, first + len(whole)))
    assert text(whole) == "Once upon a time"


async def test_an_answer_that_goes_on_while_redis_is_away_is_told_once_when_it_is_back(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn_id = await worker.told()
    log = f"turn:{{{turn_id}}}:{worker.who.tenant_id}"
    rows: Any = await worker.client.xrange(log)
    await worker.client.delete(log)  # Redis went before it had all
    for place, fields in rows[:2]:
        await worker.client.xadd(log, fields, id=place)
    worker.gateway.events = events(" a", " time")
    worker.gateway.waits[1] = asyncio.Event()

    with monkeypatch.context() as away:
        away.setattr(worker.deps.log, "_store", unreachable)
        await continue_turn(worker.who, turn_id, 5, Flow(), worker.deps, worker.branches)
    worker.gateway.waits[1].set()
    await worker.followed(turn_id)

    assert text(await worker.another().followed(turn_id)) == "Once upon a time"


async def unreachable(*_: object, **__: object) -> int:
    raise redis.exceptions.ConnectionError


@pytest.mark.parametrize("pieces", [0, 1])
async def test_a_continuation_is_taken_over_and_each_attempt_billed_once(worker: Worker, pieces: int) -> None:
    turn_id = await worker.told()
    worker.gateway.events = events(" a", " time")
    worker.gateway.waits[1 + pieces] = asyncio.Event()
    worker.gateway.called.clear()
    answered = await continue_turn(worker.who, turn_id, 5, Flow(), worker.deps, worker.branches)
    await asyncio.wait_for(worker.gateway.called.wait(), END_S)
    if pieces:
        live = worker.deps.log.follow(worker.who.tenant_id, turn_id, answered.log_position)
        await asyncio.wait_for(anext(aiter(live)), END_S)
    await worker.deps.running.aclose(0)
    other = worker.another()
    other.gateway.events = events(*[" a", " time"][pieces:])

    assert await take_over_lapsed(other.deps) == 1

    whole = await other.followed(turn_id)
    assert [entry.position for entry in whole] == list(range(1, len(whole) + 1))
    assert (await other.turn(turn_id)).content == "Once upon a time"
    (request,) = other.gateway.requests
    assert request.sampling.max_tokens == 5 - pieces
    billed = await worker.database.fetch(
        "SELECT prompt_tokens FROM usage_events WHERE turn_id = $1 AND prompt_tokens > 0", turn_id
    )
    assert len(billed) == 2
    assert (await other.turn(turn_id)).usage.prompt_tokens == 20


async def test_what_is_finished_or_runs_is_not_continued(worker: Worker) -> None:
    worker.gateway.events = events("Done.", reason="stop")
    finished = await worker.told()
    with pytest.raises(Conflict):
        await worker.go_on(finished)
    worker.gateway.waits[1] = asyncio.Event()
    running = await worker.accept()
    with pytest.raises(Conflict):
        await worker.go_on(running.turn_id)
    worker.gateway.waits[1].set()


async def test_an_engine_that_cant_go_on_is_named(worker: Worker) -> None:
    turn_id = await worker.told()
    worker.gateway.card = msgspec.structs.replace(worker.gateway.card, supports_continuation=False)
    with pytest.raises(InvalidRequest) as caught:
        await worker.go_on(turn_id)
    assert "model" in caught.value.message
    assert (await worker.turn(turn_id)).status == "complete"


async def test_a_continuation_that_fails_leaves_the_answer_to_be_continued_again(worker: Worker) -> None:
    turn_id = await worker.told()
    worker.gateway.refusal = EngineUnavailable("The engine is down.")
    await worker.go_on(turn_id)
    broken = await worker.turn(turn_id)
    assert (broken.status, broken.content) == ("incomplete", "Once upon")
    worker.gateway.refusal = None

    await worker.go_on(turn_id, " a time")

    assert (await worker.turn(turn_id)).content == "Once upon a time"


async def test_only_one_of_two_continuations_goes_on(worker: Worker) -> None:
    turn_id = await worker.told()
    worker.gateway.waits[1] = asyncio.Event()
    tries = (continue_turn(worker.who, turn_id, 5, Flow(), worker.deps, worker.branches) for _ in range(2))
    ended = await asyncio.gather(*tries, return_exceptions=True)
    worker.gateway.waits[1].set()
    assert sorted(isinstance(each, Conflict) for each in ended) == [False, True]
    await worker.followed(turn_id)
    assert (await worker.turn(turn_id)).content == "Once uponOnce upon"


async def test_a_question_is_answered_again_with_the_same_prompt(worker: Worker) -> None:
    await worker.told("First.")
    turn_id = await worker.told("Second.")
    another = Another(
        who=worker.who,
        turn_id=turn_id,
        request_id=new_id("req"),
        body_sha256=b"",
        model=None,
        sampling=Sampling(temperature=1.5),
        flow=Flow(),
    )

    opened, _ = await regenerate_turn(another, worker.deps, worker.branches)
    await worker.followed(opened.turn_id)

    before, again = worker.gateway.requests[-2:]
    assert again.messages == before.messages
    assert again.sampling == Sampling(max_tokens=20, temperature=1.5)
    *_, one, other = await worker.rows()
    assert one.parent_id == other.parent_id


async def test_a_question_beside_a_second_answer_that_runs_becomes_a_branch(worker: Worker) -> None:
    turn_id = await worker.told("First.")
    worker.gateway.waits[1] = asyncio.Event()
    another = Another(
        who=worker.who,
        turn_id=turn_id,
        request_id=new_id("req"),
        body_sha256=b"",
        model=None,
        sampling=Sampling(),
        flow=Flow(),
    )
    await regenerate_turn(another, worker.deps, worker.branches)

    beside = await worker.accept("Beside.")

    assert beside.parent_id is None
    worker.gateway.waits[1].set()


async def test_a_retry_finds_its_turn_while_the_engine_is_down(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await worker.accept(request_id="mine")
    await worker.followed(first.turn_id)

    async def down(model_id: str) -> None:
        raise EngineUnavailable("The engine is down.")

    monkeypatch.setattr(worker.gateway, "model", down)

    again = await worker.accept(request_id="mine")

    assert (again.turn_id, again.created) == (first.turn_id, False)
    with pytest.raises(EngineUnavailable):
        await worker.accept(request_id="another")


async def test_an_early_question_edited_after_a_cut_has_its_own_history(worker: Worker) -> None:
    worker.gateway.card = msgspec.structs.replace(worker.gateway.card, context_length=200)
    for number in range(6):
        await worker.told(f"question {number} " + "word " * 30)
    assert "question 0" not in "".join(text_of(m.content) for m in worker.gateway.requests[-1].messages)
    question = (await worker.rows())[2]
    body = CompletionRequest(
        request_id=new_id("req"),
        model="model",
        messages=[Message(role="user", content="Edited.")],
        sampling=Sampling(max_tokens=20),
    )
    ask = Ask(
        who=worker.who,
        conversation_id=worker.conversation_id,
        request_id=new_id("req"),
        body_sha256=b"",
        template=body,
        system=[],
        parent_id=question.parent_id,
    )

    opened = await accept_turn(ask, worker.deps)
    await worker.followed(opened.turn_id)

    told = [text_of(message.content) for message in worker.gateway.requests[-1].messages]
    assert told[1].startswith("question 0 ")
    assert told[2:] == ["Once upon", "Edited."]
