"""Titles: at once from the user's words, then the model's if it is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triplane.domain.completion import Message
from triplane.domain.events import Delta, Finished, FinishReason, Usage
from triplane.orchestration.titles import MAX_TITLE_CHARACTERS, as_title, provisional_title


def answer(text: str, reason: FinishReason = "stop") -> list[Delta | Finished]:
    return [Delta(text=text), Finished(reason=reason, usage=Usage())]


@given(text=st.text(max_size=300))
def test_a_provisional_title_is_one_short_line(text: str) -> None:
    title = provisional_title(Message(role="user", content=text))
    if title is not None:
        assert 0 < len(title) <= MAX_TITLE_CHARACTERS + 1
        assert "\n" not in title
    else:
        assert not text.strip()


def test_a_long_text_is_cut_at_a_word() -> None:
    title = provisional_title(Message(role="user", content="Explain how " + "continuous batching " * 9))
    assert title
    assert title.removesuffix("…").split()[-1] in ("continuous", "batching")


def test_the_models_title_is_taken_without_its_ornaments() -> None:
    assert as_title(answer(' "Trip to Lisbon."'), "Plan a three day trip to Lisbon") == "Trip to Lisbon"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Sorting dates in Python", "stop"),
        ("You should see a doctor about the Lisbon trip as soon as you can", "stop"),
        ("A trip to Lisbon is", "length"),
        ("", "stop"),
    ],
)
def test_an_answer_that_is_no_title_is_not_taken(text: str, reason: FinishReason) -> None:
    assert as_title(answer(text, reason), "Plan a three day trip to Lisbon") is None
