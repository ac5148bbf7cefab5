"""Turns in a real PostgreSQL: order, sameness of a retry, and an end that happens once."""

import asyncio

import msgspec
import pytest
from store_examples import USAGE, bill, held_by, new_turn, result

from gateways import engine_call
from servers import add_user
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.pool import Database, open_database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.adapters.postgres.usage import PostgresUsage
from triplane.domain.completion import FunctionCall, Message, ToolCall
from triplane.domain.conversation import NewMessage, Principal
from triplane.domain.errors import IdempotencyKeyReused, InvalidRequest, NotFound
from triplane.domain.events import TurnError, Usage
from triplane.domain.ids import new_id
from triplane.orchestration.ending import call_usage_id
from triplane.orchestration.ports import Job, NewTurn


@pytest.fixture
def turns(database: Database) -> PostgresTurns:
    return PostgresTurns(database)


@pytest.fixture
def conversations(database: Database) -> PostgresConversations:
    return PostgresConversations(database)


@pytest.fixture
async def conversation_id(conversations: PostgresConversations, who: Principal) -> str:
    return (await conversations.create(who, None, {}, [])).id


async def test_a_turn_is_opened_with_its_input_and_a_draft(
    turns: PostgresTurns, conversations: PostgresConversations, who: Principal, conversation_id: str
) -> None:
    new = new_turn(conversation_id, "Hello", "there", title="Hello")

    opened = await turns.open(who, new)

    assert opened.created
    assert opened.parent_id is None
    assert opened.draft_seq == 3
    assert opened.conversation.title == "Hello"
    assert opened.conversation.last_seq == 3
    rows, more = await conversations.messages(who, conversation_id, 0, 10)
    assert rows[:2] == opened.input_messages
    assert [row.parent_id for row in rows] == [None, rows[0].id, rows[1].id]
    assert (rows[2].id, rows[2].seq, rows[2].status, rows[2].content) == (new.draft_id, 3, "streaming", "")
    assert not more


async def test_fifty_tabs_at_once_get_seqs_without_a_gap(
    turns: PostgresTurns, conversations: PostgresConversations, who: Principal, conversation_id: str
) -> None:
    opened = await asyncio.gather(
        *(turns.open(who, new_turn(conversation_id, f"tab {n}")) for n in range(50))
    )

    seqs = [turn.input_messages[0].seq for turn in opened] + [turn.draft_seq for turn in opened]
    assert sorted(seqs) == list(range(1, 101))
    rows, _ = await conversations.messages(who, conversation_id, 0, 200)
    assert [row.seq for row in rows] == list(range(1, 101))
    assert (await conversations.get(who, conversation_id)).last_seq == 100


async def test_one_request_id_sent_at_once_from_many_tabs_is_one_turn(
    turns: PostgresTurns, conversations: PostgresConversations, who: Principal, conversation_id: str
) -> None:
    request_id = new_id("req")

    opened = await asyncio.gather(
        *(turns.open(who, new_turn(conversation_id, "Hello", request_id=request_id)) for _ in range(20))
    )

    assert len({turn.turn_id for turn in opened}) == 1
    assert [turn.created for turn in opened].count(True) == 1
    assert len({turn.message_id for turn in opened}) == 1
    assert all(turn.input_messages == opened[0].input_messages for turn in opened)
    assert all(turn.draft_seq == 2 for turn in opened)
    rows, _ = await conversations.messages(who, conversation_id, 0, 200)
    assert [row.seq for row in rows] == [1, 2]
    again = await turns.open(who, new_turn(conversation_id, "Something else"))
    assert again.input_messages[0].seq == 3


async def test_a_request_id_with_another_body_is_refused(
    turns: PostgresTurns, conversations: PostgresConversations, who: Principal, conversation_id: str
) -> None:
    request_id = new_id("req")
    await turns.open(who, new_turn(conversation_id, "Hello", request_id=request_id))
    elsewhere = (await conversations.create(who, None, {}, [])).id

    with pytest.raises(IdempotencyKeyReused):
        await turns.open(who, new_turn(conversation_id, "Other words", request_id=request_id))
    with pytest.raises(IdempotencyKeyReused):
        await turns.open(who, new_turn(elsewhere, "Hello", request_id=request_id))

    rows, _ = await conversations.messages(who, conversation_id, 0, 10)
    assert len(rows) == 2


async def test_two_users_may_use_the_same_request_id(
    turns: PostgresTurns, conversations: PostgresConversations, database: Database, who: Principal
) -> None:
    other = await add_user(database, who.tenant_id)
    request_id = new_id("req")
    mine = (await conversations.create(who, None, {}, [])).id
    theirs = (await conversations.create(other, None, {}, [])).id

    first = await turns.open(who, new_turn(mine, "Hello", request_id=request_id))
    second = await turns.open(other, new_turn(theirs, "Hello", request_id=request_id))

    assert first.created
    assert second.created


async def test_a_conversation_of_another_user_or_tenant_isnt_found(
    turns: PostgresTurns, database: Database, who: Principal, conversation_id: str
) -> None:
    opened = await turns.open(who, new_turn(conversation_id, "Hello"))
    colleague = await add_user(database, who.tenant_id)
    stranger = await add_user(database)

    for other in (colleague, stranger, Principal(tenant_id=stranger.tenant_id, user_id=who.user_id)):
        with pytest.raises(NotFound):
            await turns.open(other, new_turn(conversation_id, "Hello"))
        with pytest.raises(NotFound):
            await turns.get(other, opened.turn_id)
        with pytest.raises(NotFound):
            await turns.finish(other, result(other, opened))

    assert (await turns.get(who, opened.turn_id)).status == "streaming"


async def test_a_deleted_conversation_isnt_found(
    turns: PostgresTurns, conversations: PostgresConversations, who: Principal, conversation_id: str
) -> None:
    opened = await turns.open(who, new_turn(conversation_id, "Hello"))
    await conversations.delete(who, conversation_id)

    with pytest.raises(NotFound):
        await turns.open(who, new_turn(conversation_id, "Hello"))
    with pytest.raises(NotFound):
        await turns.get(who, opened.turn_id)
    assert await turns.finish(who, result(who, opened)), "what was computed is billed all the same"


async def test_a_parent_must_be_of_the_same_conversation(
    turns: PostgresTurns, conversations: PostgresConversations, who: Principal, conversation_id: str
) -> None:
    elsewhere = await conversations.create(who, None, {}, [Message(role="user", content="Elsewhere")])
    foreign = (await conversations.messages(who, elsewhere.id, 0, 1))[0][0]

    with pytest.raises(NotFound) as caught:
        await turns.open(who, new_turn(conversation_id, "Hello", parent_id=foreign.id))

    assert caught.value.param == "parent_id"
    assert (await conversations.get(who, conversation_id)).last_seq == 0


async def test_the_next_turn_follows_the_last_answer(
    turns: PostgresTurns, who: Principal, conversation_id: str
) -> None:
    first = await turns.open(who, new_turn(conversation_id, "Hello"))
    await turns.finish(who, result(who, first))

    second = await turns.open(who, new_turn(conversation_id, "And then?"))

    assert second.parent_id == first.message_id


async def test_an_input_beside_running_turns_branches_from_the_last_settled_message(
    turns: PostgresTurns, who: Principal, conversation_id: str
) -> None:
    settled = await turns.open(who, new_turn(conversation_id, "Hello"))
    await turns.finish(who, result(who, settled))

    running = await turns.open(who, new_turn(conversation_id, "one tab"))
    beside = await turns.open(who, new_turn(conversation_id, "another tab"))
    third = await turns.open(who, new_turn(conversation_id, "a third tab"))

    assert running.parent_id == beside.parent_id == third.parent_id == settled.message_id


async def test_a_regenerated_answer_has_no_input_of_its_own(
    turns: PostgresTurns, conversations: PostgresConversations, who: Principal, conversation_id: str
) -> None:
    first = await turns.open(who, new_turn(conversation_id, "Hello"))
    await turns.finish(who, result(who, first))
    asked = first.input_messages[0].id

    again = await turns.open(who, new_turn(conversation_id, parent_id=asked))

    assert again.input_messages == []
    assert again.draft_seq == 3
    rows, _ = await conversations.messages(who, conversation_id, 2, 10)
    assert rows[0].parent_id == asked


async def test_the_first_title_stays(turns: PostgresTurns, who: Principal, conversation_id: str) -> None:
    await turns.open(who, new_turn(conversation_id, "Hello", title="First"))

    second = await turns.open(who, new_turn(conversation_id, "Again", title="Second"))

    assert second.conversation.title == "First"


async def test_a_turn_ends_once(
    turns: PostgresTurns,
    conversations: PostgresConversations,
    database: Database,
    who: Principal,
    conversation_id: str,
) -> None:
    opened = await turns.open(who, new_turn(conversation_id, "Hello"))

    ends = await asyncio.gather(
        *(turns.finish(who, result(who, opened, content=f"answer {n}")) for n in range(8))
    )

    assert ends.count(True) == 1
    record = await turns.get(who, opened.turn_id)
    assert record.content == f"answer {ends.index(True)}"
    assert (record.status, record.finish_reason, record.usage) == ("complete", "stop", USAGE)
    rows, _ = await conversations.messages(who, conversation_id, 1, 10)
    assert (rows[0].status, rows[0].content, rows[0].token_count) == ("complete", record.content, 3)
    assert await database.fetchval("SELECT count(*) FROM usage_events") == 1


async def test_a_failed_turn_keeps_its_error(
    turns: PostgresTurns, database: Database, who: Principal, conversation_id: str
) -> None:
    opened = await turns.open(who, new_turn(conversation_id, "Hello"))
    failed = result(who, opened, status="failed", content="")
    error = TurnError(code="engine_failed", message="The engine broke.")

    await turns.finish(who, msgspec.structs.replace(failed, error=error))

    record = await turns.get(who, opened.turn_id)
    assert (record.status, record.error_code, record.error_message) == (
        "failed",
        "engine_failed",
        "The engine broke.",
    )


async def test_streaming_is_no_end(turns: PostgresTurns, who: Principal, conversation_id: str) -> None:
    opened = await turns.open(who, new_turn(conversation_id, "Hello"))

    with pytest.raises(ValueError, match="streaming"):
        await turns.finish(who, result(who, opened, status="streaming"))


async def test_a_renewal_saves_the_text_while_the_turn_runs(
    turns: PostgresTurns, who: Principal, conversation_id: str
) -> None:
    opened = await turns.open(who, new_turn(conversation_id, "Hello"))

    assert await turns.renew(held_by(who, opened), "The ans", 3) == "held"
    assert (await turns.get(who, opened.turn_id)).content == "The ans"

    await turns.finish(who, result(who, opened))
    assert await turns.renew(held_by(who, opened), "late", 4) == "lost"
    assert (await turns.get(who, opened.turn_id)).content == "The answer."


async def test_a_lapsed_turn_is_claimed_once_and_its_old_owner_shut_out(
    turns: PostgresTurns, database: Database, who: Principal, conversation_id: str
) -> None:
    new = msgspec.structs.replace(new_turn(conversation_id, "Hello"), request=b'{"a": 1}', lease_owner="one")
    opened = await turns.open(who, new)
    assert await turns.claim_lapsed("two", 10) == []
    await turns.release(held_by(who, opened), "The ans", 3)

    claims = await asyncio.gather(*(turns.claim_lapsed(f"worker {n}", 10) for n in range(4)))

    (lapsed,) = [turn for claim in claims for turn in claim]
    assert (lapsed.request, lapsed.content, lapsed.log_position) == (b'{"a": 1}', "The ans", 3)
    assert lapsed.opened.fence == opened.fence + 1
    assert lapsed.opened.input_messages == opened.input_messages
    assert await turns.renew(held_by(who, opened), "mine!", 9) == "lost"
    assert not await turns.finish(who, result(who, opened, content="mine!"))
    assert await turns.finish(who, msgspec.structs.replace(result(who, opened), fence=lapsed.opened.fence))


async def test_a_stop_reaches_the_owner_with_its_next_renewal(
    turns: PostgresTurns, who: Principal, conversation_id: str
) -> None:
    opened = await turns.open(who, new_turn(conversation_id, "Hello"))

    await turns.request_stop(who, opened.turn_id)

    assert await turns.renew(held_by(who, opened), "", 0) == "stop"
    with pytest.raises(NotFound):
        await turns.request_stop(msgspec.structs.replace(who, user_id=new_id("user")), opened.turn_id)


async def test_an_unknown_turn_isnt_found(turns: PostgresTurns, who: Principal) -> None:
    with pytest.raises(NotFound):
        await turns.get(who, new_id("turn"))


async def test_tool_calls_and_their_results_come_back_as_they_were(
    turns: PostgresTurns, conversations: PostgresConversations, who: Principal, conversation_id: str
) -> None:
    call = ToolCall(id="call_1", function=FunctionCall(name="weather", arguments='{"city": "Köln"}'))
    given = [
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", content="12 °C", tool_call_id="call_1"),
    ]
    new = NewTurn(
        turn_id=new_id("turn"),
        request_id=new_id("req"),
        body_sha256=b"x",
        conversation_id=conversation_id,
        model="smollm2",
        messages=[NewMessage(id=new_id("msg"), message=message) for message in given],
        draft_id=new_id("msg"),
    )

    opened = await turns.open(who, new)

    rows, _ = await conversations.messages(who, conversation_id, 0, 10)
    assert [row.as_prompt() for row in rows[:2]] == given
    assert rows[:2] == opened.input_messages


async def test_nul_in_a_message_comes_back_and_elsewhere_is_refused(
    turns: PostgresTurns, conversations: PostgresConversations, who: Principal, conversation_id: str
) -> None:
    await turns.open(who, new_turn(conversation_id, "a\0b"))

    rows, _ = await conversations.messages(who, conversation_id, 0, 1)
    assert rows[0].content == "a\0b"
    with pytest.raises(InvalidRequest, match="NUL"):
        await turns.open(who, new_turn(conversation_id, "x", title="a\0b"))
    with pytest.raises(InvalidRequest, match="NUL"):
        await conversations.update(who, conversation_id, None, {"key": "a\0b"})
    with pytest.raises(InvalidRequest, match="surrogate"):
        await conversations.update(who, conversation_id, "\ud800", None)


async def test_opening_and_finishing_are_one_statement_each(
    postgres_url: str, who: Principal, conversation_id: str
) -> None:
    database = await open_database(postgres_url, size=1)
    turns = PostgresTurns(database)
    statements: list[str] = []
    async with database.connection() as only:
        only.add_query_logger(lambda query: statements.append(query.query))

    job = Job(entrypoint="generate_title", payload=b"{}", dedupe_key="title")
    opened = await turns.open(who, new_turn(conversation_id, "Hello"))
    await turns.finish(who, result(who, opened, jobs=[job]))

    await database.close()
    assert len(statements) == 2, statements


async def test_closing_waits_for_the_renewals_that_are_being_written(
    turns: PostgresTurns, who: Principal, conversation_id: str
) -> None:
    opened = await turns.open(who, new_turn(conversation_id, "Hi"))
    renewing = asyncio.create_task(turns.renew(held_by(who, opened), "so far", 1))
    await asyncio.sleep(0)

    await turns.aclose()

    assert await asyncio.wait_for(renewing, 0.01) == "held"


async def test_a_turns_cost_is_that_of_all_its_calls_and_what_was_billed_later_belongs_to_its_call(
    turns: PostgresTurns, database: Database, who: Principal, conversation_id: str
) -> None:
    opened = await turns.open(who, new_turn(conversation_id, "Hi"))
    held, usage = held_by(who, opened), PostgresUsage(database)
    calls = [engine_call(Usage(prompt_tokens=7), attempt=place, cost=2) for place in range(1, 151)]
    events = [
        msgspec.structs.replace(event, id=call_usage_id(held, event.call))
        for event in bill(who, opened, *calls)
    ]
    await usage.record(events)
    more = msgspec.structs.replace(calls[0], usage=Usage(prompt_tokens=9), cost=5)
    await usage.record_attempt([msgspec.structs.replace(events[0], call=more)])

    details = await turns.details(who, opened.turn_id)

    assert (details.cost, len(details.calls)) == (150 * 2 + 3, 100)
    assert details.calls[0].call == more
    assert not any(each.is_last for each in details.calls)
