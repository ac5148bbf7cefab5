"""How search folds text, in PostgreSQL, and how its index keeps up."""

import asyncio

import pytest
from store_examples import SOMEBODY_WAITS

from servers import add_user
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.search import PostgresSearch
from triplane.adapters.postgres.user_data import PostgresUserData
from triplane.domain.conversation import Principal
from triplane.orchestration.searching import SearchQuery


@pytest.mark.parametrize(
    ("text", "query", "is_found"),
    [
        ("Der Müller isst Käse.", "muller", True),
        ("naïve CAFÉ", "cafe", True),
        ("Grüße aus foo/bar-baz.example.com", "exam", True),
        ("Grüße aus foo/bar", "bar", True),
        ("two words apart", "word apart", False),
        ("two words apart", "words apa", True),
        ("今日は天気がいいですね", "天気", True),
        ("今日は天気がいいですね", "気天", False),
        ("東京タワーに行く", "タワー", True),
        ("สวัสดีครับ", "สวัสดี", True),
        ("안녕하세요 세계", "하세", True),
        ("snake_case 123abc v2.0", "123abc", True),
        ("it's 50% of $3,000", "3,000", True),
        ("a 'quoted' \\ word", "'quoted", True),
        ("हिन्दी में लिखा", "हिन्दी", True),
    ],
)
async def test_words_are_found_whatever_their_case_marks_and_script(
    database: Database, text: str, query: str, is_found: bool
) -> None:
    found = await database.fetchval("SELECT search_vector('user_1', $1) @@ search_query($2)", text, query)
    assert found is is_found


async def test_a_query_without_a_word_is_none(database: Database) -> None:
    assert await database.fetchval("SELECT search_query(' ?! ') IS NULL")


async def test_a_nul_in_a_message_is_no_hindrance(database: Database) -> None:
    text = await database.fetchval("SELECT message_text($1::json)", '"a\\u0000b"')
    assert text == "a b"


async def test_twenty_thousand_messages_of_one_user_and_others_are_searched_by_the_index(
    database: Database, who: Principal
) -> None:
    store, conversations = PostgresSearch(database), PostgresConversations(database)
    other = await add_user(database, who.tenant_id)
    for user in (who, other):
        made = [await conversations.create(user, f"Talk {place}", {}, []) for place in range(20)]
        await database.execute(
            """INSERT INTO messages (tenant_id, id, conversation_id, seq, role, status, content_json)
            SELECT $1, $2 || n, ($3::text[])[n % 20 + 1], n, 'user', 'complete',
                to_json('common word ' || md5(n::text) || CASE WHEN n % 5000 = 0 THEN ' heron' ELSE '' END)
            FROM generate_series(1, 10000) n""",
            user.tenant_id,
            f"{user.user_id}-",
            [each.id for each in made],
        )
    await database.execute("ANALYZE")

    await store.index_some(10)
    rare, _ = await store.search(who, SearchQuery(text="hero"), None, 10)
    common, _ = await store.search(who, SearchQuery(text="common"), None, 100)
    plan = await database.fetch(
        "EXPLAIN SELECT source_id FROM search_entries"
        f" WHERE words @@ ('{who.user_id}'::tsquery && search_query('heron'))"
    )

    assert [found.text.split()[-1] for found in rare] == ["heron"]
    assert len(common) == 20
    assert "search_entries_words" in str(plan)


async def test_a_large_import_is_indexed_a_little_at_a_time(database: Database, who: Principal) -> None:
    conversation = await imported(database, who, messages=250)

    first = await database.fetchval(INDEX, who.tenant_id, who.user_id)
    indexed = await database.fetchval("SELECT count(*) FROM search_entries")
    is_noted = await database.fetchval("SELECT searched_at IS NOT NULL FROM conversations")
    found, _ = await PostgresSearch(database).search(who, SearchQuery(text="word250"), None, 10)

    assert (first, indexed, is_noted) == (True, 100, False)
    assert [each.conversation_id for each in found] == [conversation]
    assert not await database.fetchval(INDEX, who.tenant_id, who.user_id)
    assert await database.fetchval("SELECT count(*) FROM search_entries") == 250


async def test_a_search_behind_a_large_import_waits_only_so_long(
    database: Database, who: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await imported(database, who, messages=250)
    monkeypatch.setattr("triplane.adapters.postgres.search._SEARCH_WAITS_S", 0.0)

    found, _ = await PostgresSearch(database).search(who, SearchQuery(text="word250"), None, 10)

    assert found == []
    assert await database.fetchval("SELECT count(*) FROM search_entries") == 100


async def test_one_users_trouble_keeps_nobody_elses_messages_from_being_indexed(
    database: Database, who: Principal
) -> None:
    other = await add_user(database, who.tenant_id)
    for user in (who, other):
        await imported(database, user, messages=1)
    await database.execute(
        f"""CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE query_canceled; END $$;
        CREATE TRIGGER trouble BEFORE INSERT ON search_entries FOR EACH ROW
        WHEN (NEW.user_id = '{who.user_id}') EXECUTE FUNCTION trouble()"""
    )

    assert await PostgresSearch(database).index_some(10) == 2

    assert await database.fetchval("SELECT min(user_id) FROM search_entries") == other.user_id


async def test_what_is_deleted_while_it_is_indexed_leaves_no_entry(
    database: Database, who: Principal
) -> None:
    conversation, data = await imported(database, who, messages=3), PostgresUserData(database)
    async with database.connection() as other, asyncio.timeout(20):
        held = other.transaction()
        await held.start()
        await other.execute(
            "INSERT INTO search_entries VALUES ($1, $2 || 1, $2, $3, '')",
            who.tenant_id,
            conversation,
            who.user_id,
        )
        indexing = asyncio.create_task(database.fetchval(INDEX, who.tenant_id, who.user_id))
        while not await database.fetchval(SOMEBODY_WAITS):
            pass
        await data.hide(who.tenant_id, who.user_id)
        deleting = asyncio.create_task(data.delete_some(who.tenant_id, who.user_id, 10))
        await asyncio.wait([deleting], timeout=0.2)
        await held.rollback()
        await indexing
        await deleting

    assert await database.fetchval("SELECT count(*) FROM search_entries") == 0


async def test_of_a_long_message_only_what_is_searched_is_read(database: Database, who: Principal) -> None:
    await imported(database, who, messages=1)
    await database.execute("UPDATE messages SET content_json = to_json('word1 ' || repeat('x', 150000))")

    (found,), _ = await PostgresSearch(database).search(who, SearchQuery(text="word1"), None, 10)

    assert (found.text[:7], len(found.text)) == ("word1 x", 100_000)


INDEX = "SELECT index_messages($1, $2)"


async def imported(database: Database, who: Principal, messages: int) -> str:
    """A conversation with so many messages that nobody has searched yet: word1, word2…"""
    made = await PostgresConversations(database).create(who, None, {}, [])
    await database.execute(
        """INSERT INTO messages (tenant_id, id, conversation_id, seq, role, status, content_json)
        SELECT $1, $2 || n, $2, n, 'user', 'complete', to_json('word' || n) FROM generate_series(1, $3) n""",
        who.tenant_id,
        made.id,
        messages,
    )
    return made.id
