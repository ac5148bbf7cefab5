"""What a command line and standard input ask together."""

import os
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from triplane.experience import terminal

Pipe = Callable[[bytes], None]


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """Puts this into standard input, through a real pipe."""
    opened: list[IO[str]] = []

    def put(content: bytes) -> None:
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        opened.append(os.fdopen(reading))
        monkeypatch.setattr("sys.stdin", opened[-1])

    yield put
    for file in opened:
        file.close()


@pytest.mark.parametrize(
    ("words", "content", "question"),
    [
        ("What failed?", b"", "What failed?"),
        ("What failed?", b"line 1\nline 2\n", "What failed?\n\nline 1\nline 2"),
        (None, b"Hello?\n", "Hello?"),
        (None, b"", ""),
    ],
)
def test_what_is_piped_in_follows_the_question(
    piped: Pipe, words: str | None, content: bytes, question: str
) -> None:
    piped(content)

    assert terminal.question_of(words) == question


def test_a_pipe_that_stays_silent_is_left_alone_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    with open(writing, "wb"), open(reading) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr(terminal, "_PATIENCE_S", (0.0, 0.0))

        assert terminal.question_of("What failed?") == "What failed?"

    assert "Nothing came" in capsys.readouterr().err
