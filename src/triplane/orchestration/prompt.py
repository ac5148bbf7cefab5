"""From the hot window to the prompt, within the model's token budget. Pure: no I/O, no clock.

The order is stable, so that an engine's prefix cache serves turn after turn: system policy, the turn's own
instructions, then the history and the new messages. When the history outgrows the budget it is cut in
one large step to half of it, not by one turn each time: the prefix changes rarely.
"""

from collections.abc import Sequence

import msgspec

from triplane.domain.completion import Message
from triplane.domain.conversation import NewMessage, StoredMessage
from triplane.domain.errors import ContextTooLong

DEFAULT_ANSWER_TOKENS = 1024
"""Kept free for the answer when the request doesn't say how long it may be."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens there are. `fixed_tokens` go to policy, instructions and tools, before any history.

    `message_overhead` is what the chat template adds to each message; messages whose own count isn't
    known are counted by their bytes, which no tokenizer exceeds.
    """

    context_length: int
    max_answer_tokens: int | None
    fixed_tokens: int
    message_overhead: int

    @property
    def for_messages(self) -> int:
        """What is left for history and new messages."""
        answer = min(self.max_answer_tokens or DEFAULT_ANSWER_TOKENS, self.context_length // 4)
        return self.context_length - answer - self.fixed_tokens


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """`from_seq` is the first message of the history that is in it; None if there is no history in it."""

    messages: list[Message]
    from_seq: int | None


def require_fits(new: Sequence[NewMessage], budget: Budget) -> None:
    """Raises ContextTooLong if the new messages alone, without any history, are over the budget."""
    needed = sum(_tokens(item.message, item.token_count, budget) for item in new)
    if needed > budget.for_messages:
        raise ContextTooLong(
            f"These messages need {needed} tokens and the model has room for {max(0, budget.for_messages)} "
            f"of its {budget.context_length} beside instructions and answer. Send less, or lower max_tokens.",
            param="messages",
        )


def build_prompt(
    system: Sequence[Message], history: Sequence[StoredMessage], new: Sequence[NewMessage], budget: Budget
) -> Prompt:
    """The prompt of a turn: as much of the history as fits, and all that is new."""
    room = budget.for_messages - sum(_tokens(item.message, item.token_count, budget) for item in new)
    kept = _cut([row for row in history if not _is_empty(row)], room, budget)
    return Prompt(
        messages=[*system, *(row.as_prompt() for row in kept), *(item.message for item in new)],
        from_seq=kept[0].seq if kept else None,
    )


def _cut(history: Sequence[StoredMessage], room: int, budget: Budget) -> Sequence[StoredMessage]:
    """All of the history if it fits; else its newest part, from a user's message on, within half the room."""
    counts = [_tokens(row.as_prompt(), row.token_count, budget) for row in history]
    left = sum(counts)
    if left <= room:
        return history
    for index, row in enumerate(history):
        if left <= room // 2 and row.role == "user":
            return history[index:]
        left -= counts[index]
    return []


def _is_empty(row: StoredMessage) -> bool:
    """An answer that failed before its first word: to show a model its own silence teaches it silence."""
    return row.role == "assistant" and not row.content and not row.tool_calls


def _tokens(message: Message, counted: int | None, budget: Budget) -> int:
    if counted is not None:
        return counted
    return len(msgspec.json.encode(message)) + budget.message_overhead
