"""From the hot window to the prompt, within the model's token budget. Pure: no I/O, no clock.

The order is stable, so that an engine's prefix cache serves turn after turn: system policy, the turn's own
instructions, the summary of what was cut, then the history and the new messages. When the history outgrows
the budget it is cut in one large step, not by one turn each time. Only such a cut changes the summary, so
between two cuts the prefix stays the same, byte for byte.
"""

from collections.abc import Sequence

import msgspec

from triplane.domain.completion import Message
from triplane.domain.conversation import NewMessage, StoredMessage, Summary
from triplane.domain.errors import ContextTooLong
from triplane.domain.limits import DEFAULT_ANSWER_TOKENS
from triplane.orchestration.history_ports import Window


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
        """What is left for summary, history and new messages."""
        answer = min(self.max_answer_tokens or DEFAULT_ANSWER_TOKENS, self.context_length // 4)
        return self.context_length - answer - self.fixed_tokens


def require_fits(new: Sequence[NewMessage], budget: Budget) -> None:
    """Raises ContextTooLong if the new messages alone, without any history, are over the budget."""
    needed = _new_tokens(new, budget)
    if needed > budget.for_messages:
        raise ContextTooLong(
            f"These messages need {needed} tokens and the model has room for {max(0, budget.for_messages)} "
            f"of its {budget.context_length} beside instructions and answer. Send less, or lower max_tokens.",
            param="messages",
        )


def build_prompt(
    system: Sequence[Message], history: Sequence[StoredMessage], new: Sequence[NewMessage]
) -> list[Message]:
    """The prompt of a turn: its history was made to fit by `cut_window`."""
    told = [row.as_prompt() for row in history if not _is_empty(row)]
    return [*system, *told, *(item.message for item in new)]


def fits(window: Window, new: Sequence[NewMessage], budget: Budget) -> bool:
    return window_tokens(window, budget) + _new_tokens(new, budget) <= budget.for_messages


def window_tokens(window: Window, budget: Budget) -> int:
    """What a window takes of a prompt."""
    summary = window.summary.token_count if window.summary else 0
    return summary + sum(_row_tokens(row, budget) for row in window.messages)


def cut_window(window: Window, newer: Summary | None, new: Sequence[NewMessage], budget: Budget) -> Window:
    """A window that fits: from where the newer summary ends, if that is enough, or less.

    Less is the newest part, from a user's message on, that fits into half the room. A summary that doesn't
    fit beside what is new is left out. With nothing new, the question is the window's last message.
    """
    room = budget.for_messages - _new_tokens(new, budget)
    summary = newer or window.summary
    if summary and summary.token_count > room:
        summary = None
    room -= summary.token_count if summary else 0
    kept = from_message(window.messages, newer.from_message_id) if newer else window.messages
    if not newer or sum(_row_tokens(row, budget) for row in kept) > room:
        kept = newest_within(kept, room // 2, budget) or ([] if new else newest_within(kept, room, budget))
    if not kept and not new:
        raise ContextTooLong("The question alone is too long for this model's context.", param="model")
    return Window(leaf_id=window.leaf_id, messages=list(kept), summary=summary)


def from_message(history: Sequence[StoredMessage], message_id: str) -> Sequence[StoredMessage]:
    """The history from this message on; all of it if it isn't in it."""
    return next((history[place:] for place, row in enumerate(history) if row.id == message_id), history)


def newest_within(history: Sequence[StoredMessage], room: int, budget: Budget) -> Sequence[StoredMessage]:
    """The longest end of the history that begins with a user's message and fits into `room` tokens."""
    counts = [_row_tokens(row, budget) for row in history]
    left = sum(counts)
    for place, row in enumerate(history):
        if left <= room and row.role == "user":
            return history[place:]
        left -= counts[place]
    return []


def _is_empty(row: StoredMessage) -> bool:
    """An answer that failed before its first word: to show a model its own silence teaches it silence."""
    return row.role == "assistant" and not row.content and not row.tool_calls


def _new_tokens(new: Sequence[NewMessage], budget: Budget) -> int:
    return sum(_tokens(item.message, item.token_count, budget) for item in new)


def _row_tokens(row: StoredMessage, budget: Budget) -> int:
    return 0 if _is_empty(row) else _tokens(row.as_prompt(), row.token_count, budget)


def _tokens(message: Message, counted: int | None, budget: Budget) -> int:
    if counted is not None:
        return counted
    return len(msgspec.json.encode(message)) + budget.message_overhead
