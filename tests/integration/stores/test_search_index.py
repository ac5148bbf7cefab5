"""How search folds text, in PostgreSQL."""

import pytest

from servers import add_user
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.search import PostgresSearch
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

    rare, _ = await store.search(who, SearchQuery(text="hero"), None, 10)
    common, _ = await store.search(who, SearchQuery(text="common"), None, 100)
    plan = await database.fetch(
        "EXPLAIN SELECT source_id FROM search_entries"
        f" WHERE words @@ ('{who.user_id}'::tsquery && search_query('heron'))"
    )

    assert [found.text.split()[-1] for found in rare] == ["heron"]
    assert len(common) == 20
    assert "search_entries_words" in str(plan)
