"""Server-sent events: the same events however the bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triplane.domain.errors import EngineFailed
from triplane.inference.engines.sse import SseParser

PIECE = st.binary(max_size=30).filter(lambda b: b"\n" not in b and b"\r" not in b)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(
    st.lists(st.lists(PIECE, min_size=1, max_size=3), max_size=6),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b": ping", b"id: 7", b"event: x"]),
    st.lists(st.integers(min_value=0), max_size=20),
)
def test_any_cutting_of_the_bytes_gives_the_same_events(
    events: list[list[bytes]], end: bytes, noise: bytes, places: list[int]
) -> None:
    stream = b"".join(
        (noise + end if noise else b"") + b"".join(b"data: " + line + end for line in lines) + end
        for lines in events
    )
    parser = SseParser()

    seen = [event for chunk in cut(stream, places) for event in parser.feed(chunk)]

    assert seen == [b"\n".join(lines) for lines in events]


def test_comments_and_other_fields_are_skipped() -> None:
    assert SseParser().feed(b": ping\n\nid: 3\nretry: 9\ndata:a\n\n:\n\n") == [b"a"]


def test_a_space_behind_the_colon_is_not_data_but_a_second_one_is() -> None:
    assert SseParser().feed(b"data:  x\n\ndata:y\n\n") == [b" x", b"y"]


def test_an_event_without_its_blank_line_is_not_given_yet() -> None:
    parser = SseParser()

    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\n") == [b"a"]


@pytest.mark.parametrize("endless", [b"data: aaaaaaaaaa", b"data: aaaaaaaa\n"])
def test_an_endless_event_is_refused(endless: bytes) -> None:
    parser = SseParser(max_event_bytes=100)

    with pytest.raises(EngineFailed):
        [parser.feed(endless) for _ in range(50)]
