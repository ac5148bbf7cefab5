"""How search folds text, in PostgreSQL."""

import pytest

from triplane.adapters.postgres.pool import Database


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
