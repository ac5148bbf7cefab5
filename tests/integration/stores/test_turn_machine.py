"""Turns opened, written, stopped, taken over, continued and branched in any order, in real stores."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from store_examples import new_turn, result

from triplane.adapters.postgres.branches import PostgresBranches
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.adapters.redis.log_reader import LogReader
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.adapters.redis.replay_log import RedisReplayLog
from triplane.domain.conversation import OpenedTurn, Principal, StoredMessage
from triplane.domain.errors import Conflict
from triplane.domain.events import Delta, LogEntry, TurnEnded, TurnEvent, TurnStarted, TurnStatus
from triplane.domain.ids import new_id
from triplane.orchestration.following import FollowDeps, follow_turn
from triplane.orchestration.ports import HeldTurn, NewTurn

EXAMPLES = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
WAIT_S = 20

Result = TypeVar("Result")


@dataclass
class Stores:
    """`log` is the owner's; `elsewhere` is that of a process that runs none of the turns."""

    who: Principal
    turns: PostgresTurns
    conversations: PostgresConversations
    branches: PostgresBranches
    log: RedisReplayLog
    elsewhere: RedisReplayLog
    loop: asyncio.AbstractEventLoop

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)


@dataclass
class Known:
    """What the machine knows of a turn."""

    new: NewTurn
    opened: OpenedTurn
    question_id: str
    entries: list[LogEntry] = field(default_factory=list)
    text: str = ""
    is_running: bool = True
    is_stopped: bool = False

    def held(self, who: Principal) -> HeldTurn:
        return HeldTurn(tenant_id=who.tenant_id, turn_id=self.opened.turn_id, fence=self.opened.fence)


class TurnMachine(RuleBasedStateMachine):
    def __init__(self, stores: Stores) -> None:
        super().__init__()
        self.stores, self.turns = stores, list[Known]()
        self.conversation_id = ""

    @initialize()
    def begin(self) -> None:
        made = self.stores.wait(self.stores.conversations.create(self.stores.who, None, {}, []))
        self.conversation_id = made.id

    @rule(data=st.data(), count=st.integers(1, 2))
    def ask(self, data: st.DataObject, count: int) -> None:
        settled = [turn.opened.message_id for turn in self.turns if not turn.is_running]
        parent = data.draw(st.sampled_from([msgspec.UNSET, None, *settled]))
        texts = [f"question {len(self.turns)}.{place}" for place in range(count)]
        self._open(new_turn(self.conversation_id, *texts, parent_id=parent))

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def answer_again(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.turns))
        self._open(new_turn(self.conversation_id, parent_id=turn.question_id))

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.turns))
        retried = msgspec.structs.replace(turn.new, turn_id=new_id("turn"), draft_id=new_id("msg"))
        again = self.stores.wait(self.stores.turns.open(self.stores.who, retried))
        assert (again.turn_id, again.message_id) == (turn.opened.turn_id, turn.opened.message_id)
        assert not again.created
        assert again.input_messages == turn.opened.input_messages

    @precondition(lambda self: self.turns)
    @rule()
    def insist_on_what_was(self) -> None:
        new = new_turn(self.conversation_id, "late", expected_parent=None)
        with pytest.raises(Conflict):
            self.stores.wait(self.stores.turns.open(self.stores.who, new))

    @precondition(lambda self: self._running())
    @rule(data=st.data(), texts=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3))
    def write(self, data: st.DataObject, texts: list[str]) -> None:
        turn = data.draw(st.sampled_from(self._running()))
        self._append(turn, [Delta(text=text.replace("\0", "0")) for text in texts])

    @precondition(lambda self: self._running())
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self._running()))
        held = turn.held(self.stores.who)
        said = self.stores.wait(self.stores.turns.renew(held, turn.text, len(turn.entries)))
        assert said == ("stop" if turn.is_stopped else "held")

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.turns))
        self.stores.wait(self.stores.turns.request_stop(self.stores.who, turn.opened.turn_id))
        turn.is_stopped = turn.is_running

    @precondition(lambda self: self._running())
    @rule(data=st.data(), status=st.sampled_from(["complete", "stopped", "incomplete"]))
    def end(self, data: st.DataObject, status: TurnStatus) -> None:
        turn = data.draw(st.sampled_from(self._running()))
        assert self._finish(turn, status)
        turn.is_running = False
        self._append(turn, [TurnEnded(status=status)])
        self.stores.log.close(self.stores.who.tenant_id, turn.opened.turn_id)

    @precondition(lambda self: self._ended())
    @rule(data=st.data())
    def end_what_has_ended(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self._ended()))
        assert not self._finish(turn, "failed")
        held = turn.held(self.stores.who)
        assert self.stores.wait(self.stores.turns.renew(held, "late", 99)) == "lost"

    @precondition(lambda self: self._running())
    @rule(data=st.data())
    def take_over(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self._running()))
        old = turn.held(self.stores.who)
        for other in self._running():  # other examples' turns may have lapsed, this one's must not
            held, text = other.held(self.stores.who), other.text
            self.stores.wait(self.stores.turns.renew(held, text, len(other.entries)))
        self.stores.wait(self.stores.turns.release(old, turn.text, len(turn.entries)))
        claimed = self.stores.wait(self.stores.turns.claim_lapsed("another", 1000))
        (lapsed,) = (each for each in claimed if each.opened.turn_id == turn.opened.turn_id)
        assert (lapsed.content, lapsed.stop_requested) == (turn.text, turn.is_stopped)
        assert lapsed.opened.input_messages == turn.opened.input_messages
        self._take_log(turn, lapsed.opened.fence)
        late = [LogEntry(position=len(turn.entries) + 1, event=Delta(text="late"))]
        assert not self.stores.wait(self.stores.log.append(old, late, ()))

    @precondition(lambda self: self._ended())
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self._ended()))
        rows = self._rows()
        held = msgspec.structs.replace(turn.held(self.stores.who), fence=turn.opened.fence + 1)
        reopened = self.stores.wait(self.stores.branches.reopen(held, b"{}", "me"))
        assert reopened == all(row.parent_id != turn.opened.message_id for row in rows)
        if reopened:
            turn.is_running, turn.is_stopped = True, False
            self._take_log(turn, held.fence)

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def show(self, data: st.DataObject) -> None:
        rows = self._rows()
        row = data.draw(st.sampled_from(rows))
        update = self.stores.conversations.update(self.stores.who, self.conversation_id, None, None, row.id)
        leaf = self.stores.wait(update).active_leaf
        assert leaf == _newest_below(row, rows).id

    @precondition(lambda self: self._ended())
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self._ended()))
        after = data.draw(st.integers(0, len(turn.entries) - 1))
        seen = self.stores.wait(self._followed(turn, after))
        assert [entry.position for entry in seen] == list(range(after + 1, len(turn.entries) + 1))
        assert _text(seen) == _text(turn.entries[after:])
        row = self.stores.wait(self.stores.turns.get(self.stores.who, turn.opened.turn_id))
        last = seen[-1].event
        assert isinstance(last, TurnEnded)
        assert (last.status, row.content) == (row.status, _text(turn.entries))

    @invariant()
    def the_conversation_is_a_tree_without_a_gap(self) -> None:
        if not self.conversation_id:
            return
        rows = self._rows()
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        above = {row.id: row.parent_id for row in rows}
        assert all(parent is None or parent in above for parent in above.values())
        status = {row.id: row.status for row in rows}
        for turn in self.turns:
            assert (status[turn.opened.message_id] == "streaming") == turn.is_running

    @invariant()
    def the_active_path_is_a_path(self) -> None:
        if not self.turns:
            return
        who, conversation_id = self.stores.who, self.conversation_id
        path = self._rows(only_active=True)
        assert [row.parent_id for row in path] == [None, *(row.id for row in path[:-1])]
        found = self.stores.wait(self.stores.conversations.get(who, conversation_id))
        assert found.active_leaf == path[-1].id

    def _running(self) -> list[Known]:
        return [turn for turn in self.turns if turn.is_running]

    def _ended(self) -> list[Known]:
        return [turn for turn in self.turns if not turn.is_running]

    def _rows(self, *, only_active: bool = False) -> list[StoredMessage]:
        found = self.stores.conversations.messages(
            self.stores.who, self.conversation_id, 0, 1000, only_active=only_active
        )
        return self.stores.wait(found)[0]

    def _open(self, new: NewTurn) -> None:
        new = msgspec.structs.replace(new, request=b"{}", lease_owner="me")
        opened = self.stores.wait(self.stores.turns.open(self.stores.who, new))
        assert opened.created
        question = opened.input_messages[-1].id if opened.input_messages else opened.parent_id
        assert question
        turn = Known(new, opened, question)
        self.turns.append(turn)
        self.stores.log.open(self.stores.who.tenant_id, opened.turn_id)
        started = TurnStarted(
            turn_id=opened.turn_id,
            conversation_id=self.conversation_id,
            message_id=opened.message_id,
            model="smollm2",
            created=0,
        )
        self._append(turn, [started])

    def _append(self, turn: Known, events: list[TurnEvent]) -> None:
        first = len(turn.entries) + 1
        entries = [LogEntry(position=place, event=event) for place, event in enumerate(events, first)]
        assert self.stores.wait(self.stores.log.append(turn.held(self.stores.who), entries, ()))
        turn.entries += entries
        turn.text = _text(turn.entries)

    def _finish(self, turn: Known, status: TurnStatus) -> bool:
        end = result(self.stores.who, turn.opened, status=status, content=turn.text)
        end = msgspec.structs.replace(end, fence=turn.opened.fence, log_position=len(turn.entries) + 1)
        return self.stores.wait(self.stores.turns.finish(self.stores.who, end))

    def _take_log(self, turn: Known, fence: int) -> None:
        turn.opened = msgspec.structs.replace(turn.opened, fence=fence)
        self.stores.log.open(self.stores.who.tenant_id, turn.opened.turn_id)
        recovered = self.stores.wait(self.stores.log.take_over(turn.held(self.stores.who)))
        assert recovered.entries == turn.entries

    async def _followed(self, turn: Known, after: int) -> list[LogEntry]:
        deps = FollowDeps(turns=self.stores.turns, log=self.stores.elsewhere)
        return [entry async for entry in follow_turn(self.stores.who, turn.opened.turn_id, after, deps)]


def _newest_below(top: StoredMessage, rows: list[StoredMessage]) -> StoredMessage:
    below, newest = {top.id}, top
    for row in rows:
        if row.parent_id in below:
            below.add(row.id)
            newest = row
    return newest


def _text(entries: list[LogEntry]) -> str:
    return "".join(entry.event.text for entry in entries if isinstance(entry.event, Delta))


@pytest.fixture
async def stores(
    database: Database, redis_client: redis.asyncio.Redis, redis_pipeline: RedisPipeline, who: Principal
) -> AsyncIterator[Stores]:
    reader = LogReader(redis_client)
    reading = asyncio.create_task(reader.run())
    yield Stores(
        who=who,
        turns=PostgresTurns(database),
        conversations=PostgresConversations(database),
        branches=PostgresBranches(database),
        log=RedisReplayLog(redis_pipeline, reader),
        elsewhere=RedisReplayLog(redis_pipeline, reader),
        loop=asyncio.get_running_loop(),
    )
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading


async def test_turns_keep_their_promises_in_any_order(stores: Stores) -> None:
    class Machine(TurnMachine):
        def __init__(self) -> None:
            super().__init__(stores)

    await asyncio.to_thread(run_state_machine_as_test, Machine, settings=EXAMPLES)
