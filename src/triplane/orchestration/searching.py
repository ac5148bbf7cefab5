"""Finding conversations by their words, and showing where a word stands.

The store finds; what it found is highlighted here, as pieces of text of which some are hits, so that nobody
has to take a text for markup.
"""

import asyncio
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec
import structlog

from triplane.domain.completion import Role
from triplane.domain.conversation import Principal
from triplane.domain.errors import StoreUnavailable

_log = structlog.get_logger(__name__)

SNIPPET_CHARACTERS = 160
_BEFORE = 40
"""How much of a snippet stands before its first hit."""

SEARCHED_CHARACTERS = 100_000
"""Of a message; `search_vector` of the store has the same number."""

_BLOCK = 2_000
_CONTEXT = 400
"""Characters around a block that tell whether a word begins and ends where it seems to."""


class SearchCursor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page of hits ended: those of one search are ranked as of the same moment."""

    at: datetime
    by_title: bool
    score: float
    conversation_id: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation that was found, with the best of its messages, if one was."""

    conversation_id: str
    title: str | None
    updated_at: datetime
    archived: bool
    by_title: bool
    score: float
    message_id: str | None = None
    seq: int | None = None
    role: Role | None = None
    text: str = ""


class SearchQuery(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    project_id: str | None = None
    include_archived: bool = False


class SearchStore(Protocol):
    async def search(
        self, who: Principal, query: SearchQuery, after: SearchCursor | None, limit: int
    ) -> tuple[list[Found], datetime]:
        """The user's conversations that have every word, the last also as a beginning; each once.

        Those whose titles have them come first, then the better and newer. Also the moment of the ranking.
        """
        ...


class SearchIndex(Protocol):
    async def index_some(self, limit: int) -> int:
        """Index what some users have said since they were last indexed; how many users that were."""
        ...


INDEX_EVERY_S = 30.0
_USERS_AT_ONCE = 100


async def index_for_ever(index: SearchIndex) -> None:
    """Keep little to be indexed for whoever searches: the search itself does the rest."""
    while True:
        try:
            await index.index_some(_USERS_AT_ONCE)
        except StoreUnavailable as error:
            _log.warning("messages not indexed", reason=error.code)
        await asyncio.sleep(INDEX_EVERY_S)


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    hit: bool


def highlight(text: str, query: str) -> list[Segment]:
    """The whole text, in pieces."""
    return _segments(text, _hits(text, query))


def snippet(text: str, query: str) -> list[Segment]:
    """The part of a text around its first hit, in pieces; its beginning if the hit is far behind."""
    hits = _first_hits(text, query)
    begin = max(0, hits[0][0] - _BEFORE) if hits else 0
    if begin and (space := text.find(" ", begin, hits[0][0])) > 0:
        begin = space + 1
    end = min(len(text), max(begin + SNIPPET_CHARACTERS, hits[0][1] if hits else 0))
    inside = [(start - begin, min(stop, end) - begin) for start, stop in hits if start < end]
    shown = _segments(text[begin:end], inside)
    before = [Segment(text="…", hit=False)] if begin else []
    return [*before, *shown, *([Segment(text="…", hit=False)] if end < len(text) else [])]


def _first_hits(text: str, query: str) -> list[tuple[int, int]]:
    """The first hit and those that a snippet can show beside it; what is behind isn't looked at."""
    for begin in range(0, min(len(text), SEARCHED_CHARACTERS), _BLOCK):
        low = max(0, begin - _CONTEXT)
        block = text[low : begin + _BLOCK + SNIPPET_CHARACTERS + _CONTEXT]
        hits = [(low + start, low + stop) for start, stop in _hits(block, query) if low + start >= begin]
        if hits and hits[0][0] < begin + _BLOCK:
            return hits
    return []


def _segments(text: str, hits: Sequence[tuple[int, int]]) -> list[Segment]:
    found, last = [], 0
    for start, stop in hits:
        if start > last:
            found.append(Segment(text=text[last:start], hit=False))
        if stop > max(start, last):
            found.append(Segment(text=text[max(start, last) : stop], hit=True))
        last = max(last, stop)
    if last < len(text):
        found.append(Segment(text=text[last:], hit=False))
    return found


def _hits(text: str, query: str) -> list[tuple[int, int]]:
    """Where words of the query stand, in order; the last word counts as the beginning of one too."""
    folded, places = _fold(text)
    words = "".join(_fold(query)[0]).split()
    found = [
        hit
        for index, word in enumerate(words)
        for hit in _stands(word, folded, is_beginning=index == len(words) - 1)
    ]
    return [(places[start], places[stop - 1] + 1) for start, stop in sorted(set(found))]


def _stands(word: str, folded: str, *, is_beginning: bool) -> Iterable[tuple[int, int]]:
    start = folded.find(word)
    while start >= 0:
        stop = start + len(word)
        begins = (
            start == 0 or folded[start - 1] == " " or _is_unspaced(word[0]) or _is_unspaced(folded[start - 1])
        )
        ends = (
            stop == len(folded) or folded[stop] == " " or _is_unspaced(word[-1]) or _is_unspaced(folded[stop])
        )
        if begins and (ends or is_beginning):
            yield start, stop
        start = folded.find(word, start + 1)


_UNSPACED = (
    ("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"), ("\u3040", "\u30ff"),
    ("\u3400", "\u9fff"), ("\uac00", "\ud7af"), ("\uf900", "\ufaff"),
)  # fmt: skip
"""Scripts of which the index takes each character as a word, as `search_words` of the store does."""


def _is_unspaced(character: str) -> bool:
    return any(first <= character <= last for first, last in _UNSPACED)


def _fold(text: str) -> tuple[str, list[int]]:
    """The text as it is compared (`search_folded` of the store), and where its characters come from."""
    folded: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isascii():
            told = character.lower() if character.isalnum() else " "
        else:
            plain = "".join(
                part
                for part in unicodedata.normalize("NFKD", character).lower()
                if not "\u0300" <= part <= "\u036f"
            )
            told = "".join(
                part if unicodedata.category(part)[0] in "LNM" else " "
                for part in unicodedata.normalize("NFKC", plain)
            )
        folded.append(told)
        places += [place] * len(told)
    return "".join(folded), places
