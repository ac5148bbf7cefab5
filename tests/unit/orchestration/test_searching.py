"""What a found text is shown as."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triplane.orchestration import searching
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


@pytest.mark.parametrize("at", [0, 1999, 2000, 3990, 99_000])
def test_a_word_is_found_wherever_it_stands_in_a_long_text(at: int) -> None:
    text = ("filler " * 20_000)[:at].ljust(at, "x") + " héron, and a heron " + "filler " * 1000
    assert [piece.text for piece in snippet(text, "heron") if piece.hit] == ["héron", "heron"]


def test_what_stands_behind_the_first_hit_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    fold, folded = searching._fold, 0

    def counting(text: str) -> tuple[str, list[int]]:
        nonlocal folded
        folded += len(text)
        return fold(text)

    monkeypatch.setattr(searching, "_fold", counting)
    snippet("a heron " + "filler " * 14_000, "heron")
    assert folded < 5_000
