"""How many tokens a message can have at most, where no tokenizer can be asked."""

import msgspec

from triplane.domain.completion import ImagePart, Message, text_of

MARKER_TOKENS = 8
"""What a chat template puts around a message, in any template that we know."""

IMAGE_TOKENS = 1600
"""Of an image at the size to which vendors scale it down."""


def counted_text(message: Message) -> str:
    """What a tokenizer is asked to count of a message: its text and its calls."""
    calls = "".join(msgspec.json.encode(call).decode() for call in message.tool_calls or ())
    return text_of(message.content) + calls


def image_tokens(message: Message) -> int:
    if not isinstance(message.content, list):
        return 0
    return IMAGE_TOKENS * sum(isinstance(part, ImagePart) for part in message.content)


def token_bound(message: Message) -> int:
    """An upper bound: no tokenizer makes more tokens than bytes."""
    return len(counted_text(message).encode()) + MARKER_TOKENS + image_tokens(message)
