"""What a found text is shown as."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from triplane.orchestration.searching import highlight, snippet

WORDS = st.text("abcäéß漢字かน", min_size=1, max_size=6)


def plain(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text.lower())
    return "".join(each for each in folded if not "\u0300" <= each <= "\u036f")


@given(before=st.lists(WORDS, max_size=60), word=WORDS, after=st.lists(WORDS, max_size=60))
def test_every_hit_shows_the_word_and_nothing_is_lost(before: list[str], word: str, after: list[str]) -> None:
    text = " ".join([*before, word, *after])

    whole, part = highlight(text, word), snippet(text, word)

    assert "".join(piece.text for piece in whole) == text
    for pieces in (whole, part):
        hits = [plain(piece.text) for piece in pieces if piece.hit]
        assert hits
        assert any(plain(word) in hit for hit in hits)
    assert sum(len(piece.text) for piece in part) <= 162 + len(word)


@given(text=st.text(max_size=300), query=st.text(max_size=20))
def test_no_text_and_no_query_breaks_it(text: str, query: str) -> None:
    assert "".join(piece.text for piece in highlight(text, query)) == text
    snippet(text, query)


def test_markup_stays_text() -> None:
    assert [piece.text for piece in highlight("<b>bold</b>", "bold")] == ["<b>", "bold", "</b>"]
