"""Conversations in a real PostgreSQL: pages, tombstones, branches."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_examples import new_turn, result

from servers import add_user
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.domain.completion import Message, TextPart
from triplane.domain.conversation import Conversation, Principal
from triplane.domain.errors import NotFound
from triplane.domain.ids import new_id


@pytest.fixture
def conversations(database: Database) -> PostgresConversations:
    return PostgresConversations(database)


@pytest.fixture
def turns(database: Database) -> PostgresTurns:
    return PostgresTurns(database)


async def test_a_conversation_comes_back_as_it_was_made(
    conversations: PostgresConversations, who: Principal
) -> None:
    items = [
        Message(role="system", content="Be brief."),
        Message(role="user", content=[TextPart(text="Hello")]),
        Message(role="assistant", content="Hi."),
    ]

    made = await conversations.create(who, "Greetings", {"topic": "hello"}, items)

    assert await conversations.get(who, made.id) == made
    assert (made.title, made.metadata, made.last_seq) == ("Greetings", {"topic": "hello"}, 3)
    rows, more = await conversations.messages(who, made.id, 0, 10)
    assert [row.as_prompt() for row in rows] == items
    assert [row.seq for row in rows] == [1, 2, 3]
    assert [row.parent_id for row in rows] == [None, rows[0].id, rows[1].id]
    assert not more


async def test_a_turn_follows_the_items_that_a_conversation_was_made_with(
    conversations: PostgresConversations, turns: PostgresTurns, who: Principal
) -> None:
    made = await conversations.create(who, None, {}, [Message(role="user", content="Hello")])

    opened = await turns.open(who, new_turn(made.id, "And?"))

    assert opened.input_messages[0].seq == 2
    assert opened.parent_id == (await conversations.messages(who, made.id, 0, 1))[0][0].id


async def test_an_empty_conversation_has_no_messages(
    conversations: PostgresConversations, who: Principal
) -> None:
    made = await conversations.create(who, None, {}, [])

    assert await conversations.messages(who, made.id, 0, 10) == ([], False)


async def test_nobody_else_sees_a_conversation(
    conversations: PostgresConversations, database: Database, who: Principal
) -> None:
    made = await conversations.create(who, "Mine", {}, [Message(role="user", content="Hello")])
    leaf = (await conversations.messages(who, made.id, 0, 1))[0][0].id

    for other in (await add_user(database, who.tenant_id), await add_user(database)):
        for attempt in (
            conversations.get(other, made.id),
            conversations.update(other, made.id, "Theirs", None),
            conversations.delete(other, made.id),
            conversations.messages(other, made.id, 0, 10),
            conversations.path(other, made.id, leaf, 1),
            conversations.list_page(other, made.id, 10),
        ):
            with pytest.raises(NotFound):
                await attempt
        assert await conversations.list_page(other, None, 10) == ([], False)
        assert not await conversations.set_generated_title(new_id("tenant"), made.id, "Theirs")
    assert await conversations.get(who, made.id) == made


async def test_a_deleted_conversation_is_gone_but_its_rows_stay(
    conversations: PostgresConversations, database: Database, who: Principal
) -> None:
    made = await conversations.create(who, "Old", {}, [Message(role="user", content="Hello")])

    await conversations.delete(who, made.id)

    for attempt in (
        conversations.get(who, made.id),
        conversations.delete(who, made.id),
        conversations.messages(who, made.id, 0, 10),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await conversations.list_page(who, None, 10) == ([], False)
    assert not await conversations.set_generated_title(who.tenant_id, made.id, "New")
    assert await database.fetchval("SELECT count(*) FROM messages") == 1


async def test_an_update_changes_only_what_is_given(
    conversations: PostgresConversations, who: Principal
) -> None:
    made = await conversations.create(who, "One", {"a": "1"}, [])

    renamed = await conversations.update(who, made.id, "Two", None)
    changed = await conversations.update(who, made.id, None, {"b": "2"})

    assert (renamed.title, renamed.metadata) == ("Two", {"a": "1"})
    assert (changed.title, changed.metadata) == ("Two", {"b": "2"})
    assert changed.updated_at == made.updated_at, "renaming is no activity"


async def test_a_generated_title_yields_to_a_persons(
    conversations: PostgresConversations, turns: PostgresTurns, who: Principal
) -> None:
    made = await conversations.create(who, None, {}, [])
    await turns.open(who, new_turn(made.id, "Hello", title="Hello"))

    assert await conversations.set_generated_title(who.tenant_id, made.id, "A greeting")
    await conversations.update(who, made.id, "Mine", None)

    assert not await conversations.set_generated_title(who.tenant_id, made.id, "Another greeting")
    assert (await conversations.get(who, made.id)).title == "Mine"


async def test_activity_brings_a_conversation_to_the_front(
    conversations: PostgresConversations, turns: PostgresTurns, who: Principal
) -> None:
    first = await conversations.create(who, None, {}, [])
    second = await conversations.create(who, None, {}, [])
    assert [each.id for each in (await conversations.list_page(who, None, 10))[0]] == [second.id, first.id]

    opened = await turns.open(who, new_turn(first.id, "Hello"))
    await turns.finish(who, result(who, opened))

    assert [each.id for each in (await conversations.list_page(who, None, 10))[0]] == [first.id, second.id]


async def _all_pages(store: PostgresConversations, who: Principal, size: int) -> list[Conversation]:
    found: list[Conversation] = []
    more = True
    while more:
        page, more = await store.list_page(who, found[-1].id if found else None, size)
        assert len(page) == size or not more
        found += page
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages=st.lists(st.integers(0, 3), max_size=12), size=st.integers(1, 5))
async def test_pages_of_any_size_hold_every_conversation_once_newest_first(
    database: Database, ages: list[int], size: int
) -> None:
    who = await add_user(database)
    store = PostgresConversations(database)
    made = [await store.create(who, None, {}, []) for _ in ages]
    start = (await database.fetchval("SELECT now()")) - timedelta(days=1)
    for conversation, age in zip(made, ages, strict=True):
        await database.execute(
            "UPDATE conversations SET updated_at = $1 WHERE tenant_id = $2 AND id = $3",
            start - timedelta(seconds=age),
            who.tenant_id,
            conversation.id,
        )

    found = await _all_pages(store, who, size)

    assert sorted(each.id for each in found) == sorted(each.id for each in made)
    assert found == sorted(found, key=lambda each: (each.updated_at, each.id), reverse=True)


async def test_a_page_behind_a_deleted_conversation_goes_on(
    conversations: PostgresConversations, who: Principal
) -> None:
    made = [await conversations.create(who, None, {}, []) for _ in range(3)]
    await conversations.delete(who, made[1].id)

    page, more = await conversations.list_page(who, made[1].id, 10)

    assert [each.id for each in page] == [made[0].id]
    assert not more


async def test_a_page_behind_an_unknown_conversation_isnt_found(
    conversations: PostgresConversations, who: Principal
) -> None:
    with pytest.raises(NotFound) as caught:
        await conversations.list_page(who, new_id("conv"), 10)

    assert caught.value.param == "after"


async def test_messages_come_in_pages_behind_a_seq(
    conversations: PostgresConversations, who: Principal
) -> None:
    items = [Message(role="user", content=str(n)) for n in range(5)]
    made = await conversations.create(who, None, {}, items)

    first, more = await conversations.messages(who, made.id, 0, 3)
    rest, no_more = await conversations.messages(who, made.id, first[-1].seq, 3)
    behind, _ = await conversations.messages(who, made.id, 99, 3)

    assert [row.content for row in first + rest] == ["0", "1", "2", "3", "4"]
    assert (more, no_more, behind) == (True, False, [])


async def test_messages_are_read_from_the_newest_back(
    conversations: PostgresConversations, who: Principal
) -> None:
    items = [Message(role="user", content=str(n)) for n in range(5)]
    made = await conversations.create(who, None, {}, items)

    newest, more = await conversations.messages_before(who, made.id, 99, 3)
    older, no_more = await conversations.messages_before(who, made.id, newest[0].seq, 3)

    assert [row.content for row in older + newest] == ["0", "1", "2", "3", "4"]
    assert (more, no_more) == (True, False)
    with pytest.raises(NotFound):
        await conversations.messages_before(who, new_id("conv"), 99, 3)


async def test_a_path_follows_one_branch(
    conversations: PostgresConversations, turns: PostgresTurns, who: Principal
) -> None:
    made = await conversations.create(who, None, {}, [])
    first = await turns.open(who, new_turn(made.id, "Hello"))
    await turns.finish(who, result(who, first))
    left, right = await asyncio.gather(
        turns.open(who, new_turn(made.id, "left", parent_id=first.message_id)),
        turns.open(who, new_turn(made.id, "right", parent_id=first.message_id)),
    )

    for branch in (left, right):
        path = await conversations.path(who, made.id, branch.message_id, 1)
        expected = [first.input_messages[0], branch.input_messages[0]]
        assert [path[0].id, path[2].id] == [row.id for row in expected]
        assert [row.id for row in path[1::2]] == [first.message_id, branch.message_id]
    cut = await conversations.path(who, made.id, left.message_id, 2)
    assert [row.id for row in cut] == [first.message_id, left.input_messages[0].id, left.message_id]


async def test_a_path_needs_a_leaf_of_this_conversation(
    conversations: PostgresConversations, who: Principal
) -> None:
    made = await conversations.create(who, None, {}, [])
    other = await conversations.create(who, None, {}, [Message(role="user", content="Hello")])
    foreign = (await conversations.messages(who, other.id, 0, 1))[0][0].id

    for leaf in (foreign, new_id("msg")):
        with pytest.raises(NotFound):
            await conversations.path(who, made.id, leaf, 1)
