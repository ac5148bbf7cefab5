"""The prompt is in order, and its history is cut to fit the budget."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triplane.domain.completion import Message, Role
from triplane.domain.conversation import NewMessage, StoredMessage, Summary
from triplane.domain.errors import ContextTooLong
from triplane.orchestration.history_ports import Window
from triplane.orchestration.prompt import Budget, build_prompt, cut_window, fits, require_fits
from turn_fakes import NOW

SYSTEM = [Message(role="system", content="Be brief.")]


def budget(context_length: int = 1000, max_answer_tokens: int | None = None) -> Budget:
    return Budget(
        context_length=context_length,
        max_answer_tokens=max_answer_tokens,
        fixed_tokens=20,
        message_overhead=4,
    )


def row(seq: int, tokens: int) -> StoredMessage:
    role: Role = "user" if seq % 2 else "assistant"
    return StoredMessage(
        id=f"msg_{seq}",
        seq=seq,
        role=role,
        content=f"message {seq}",
        status="complete",
        created_at=NOW,
        token_count=tokens,
    )


def asked(text: str = "new", tokens: int | None = 10) -> list[NewMessage]:
    return [NewMessage(id="msg_new", message=Message(role="user", content=text), token_count=tokens)]


def window_of(sizes: list[int], summary: Summary | None = None) -> Window:
    rows = [row(seq, tokens) for seq, tokens in enumerate(sizes, start=1)]
    return Window(leaf_id="msg_leaf", messages=rows, summary=summary)


def summary_upto(seq: int, tokens: int = 30) -> Summary:
    return Summary(
        from_message_id=f"msg_{seq + 1}",
        upto_seq=seq,
        text=f"Said up to {seq}.",
        token_count=tokens,
        created_at=NOW,
    )


sizes = st.lists(st.integers(1, 300), max_size=60)
summaries = st.none() | st.builds(summary_upto, st.integers(0, 60), st.integers(1, 200))


@given(sizes=sizes, told=summaries, newer=summaries, new_tokens=st.integers(1, 700))
def test_a_cut_window_fits_beside_what_is_new(
    sizes: list[int], told: Summary | None, newer: Summary | None, new_tokens: int
) -> None:
    window, new = window_of(sizes, told), asked(tokens=new_tokens)
    cut = cut_window(window, newer, new, budget())
    assert fits(cut, new, budget())
    assert cut.messages == window.messages[len(window.messages) - len(cut.messages) :]
    assert cut.summary in (told, newer, None)


@given(sizes=sizes)
def test_a_cut_history_begins_with_a_users_message(sizes: list[int]) -> None:
    cut = cut_window(window_of(sizes), None, asked(), budget())
    assert all(item.role == "user" for item in cut.messages[:1])


def test_a_window_is_cut_where_its_newest_summary_ends() -> None:
    cut = cut_window(window_of([100] * 10), summary_upto(4), asked(), budget())
    assert cut.summary == summary_upto(4)
    assert [item.seq for item in cut.messages] == [5, 6, 7, 8, 9, 10]


def test_without_a_summary_half_the_room_is_kept_and_the_old_summary_stays() -> None:
    cut = cut_window(window_of([100] * 10, summary_upto(0)), None, asked(), budget())
    assert cut.summary == summary_upto(0)
    assert [item.seq for item in cut.messages] == [9, 10]


def test_a_prompt_is_in_order_and_tells_no_model_its_own_silence() -> None:
    silent = msgspec.structs.replace(row(2, 1), content="", status="failed")
    prompt = build_prompt(SYSTEM, [row(1, 1), silent, row(3, 1)], asked())
    assert [message.content for message in prompt] == ["Be brief.", "message 1", "message 3", "new"]


def test_messages_that_fill_the_context_alone_are_refused_by_name() -> None:
    with pytest.raises(ContextTooLong, match="need 900 tokens") as refused:
        require_fits(asked(tokens=900), budget())
    assert refused.value.param == "messages"


def test_a_message_of_unknown_length_is_counted_by_its_bytes() -> None:
    with pytest.raises(ContextTooLong):
        require_fits(asked("é" * 400, tokens=None), budget())


def test_a_long_answer_may_not_push_out_more_than_a_quarter_of_the_context() -> None:
    assert budget(max_answer_tokens=5000).for_messages == 1000 - 250 - 20
