"""The prompt fits the budget, is in order, and its beginning rarely changes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triplane.domain.completion import Message, Role
from triplane.domain.conversation import NewMessage, StoredMessage
from triplane.domain.errors import ContextTooLong
from triplane.orchestration.prompt import Budget, Prompt, build_prompt, require_fits
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


sizes = st.lists(st.integers(1, 300), max_size=60)


@given(sizes=sizes, new_tokens=st.integers(1, 700))
def test_a_prompt_never_needs_more_than_its_budget(sizes: list[int], new_tokens: int) -> None:
    history = [row(seq, tokens) for seq, tokens in enumerate(sizes, start=1)]
    room = budget()
    prompt = build_prompt(SYSTEM, history, asked(tokens=new_tokens), room)
    kept = [item for item in history if prompt.from_seq and item.seq >= prompt.from_seq]
    assert sum(item.token_count or 0 for item in kept) + new_tokens <= room.for_messages
    assert prompt.messages == [*SYSTEM, *(item.as_prompt() for item in kept), asked()[0].message]


@given(sizes=sizes)
def test_a_cut_history_begins_with_a_users_message(sizes: list[int]) -> None:
    history = [row(seq, tokens) for seq, tokens in enumerate(sizes, start=1)]
    prompt = build_prompt(SYSTEM, history, asked(), budget())
    if len(prompt.messages) - 2 < len(history) and len(prompt.messages) > 2:
        assert prompt.messages[1].role == "user"


@given(pairs=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 120)), min_size=2, max_size=80))
def test_the_prefix_stays_the_same_from_turn_to_turn_until_a_cut(pairs: list[tuple[int, int]]) -> None:
    history: list[StoredMessage] = []
    prompts: list[tuple[int, Prompt]] = []
    for question, answer in pairs:
        seq = history[-1].seq if history else 0
        new = asked(f"message {seq + 1}", question)
        prompt = build_prompt(SYSTEM, history, new, budget())
        first = prompt.from_seq or seq + 1
        prompts.append((first, prompt))
        history = [item for item in history if item.seq >= first]
        history += [row(seq + 1, question), row(seq + 2, answer)]
    for (start_before, before), (start_after, after) in pairwise(prompts):
        if start_before == start_after:
            assert after.messages[: len(before.messages)] == before.messages


def test_messages_that_fill_the_context_alone_are_refused_by_name() -> None:
    with pytest.raises(ContextTooLong, match="need 900 tokens") as refused:
        require_fits(asked(tokens=900), budget())
    assert refused.value.param == "messages"


def test_a_message_of_unknown_length_is_counted_by_its_bytes() -> None:
    with pytest.raises(ContextTooLong):
        require_fits(asked("é" * 400, tokens=None), budget())


def test_a_long_answer_may_not_push_out_more_than_a_quarter_of_the_context() -> None:
    assert budget(max_answer_tokens=5000).for_messages == 1000 - 250 - 20
