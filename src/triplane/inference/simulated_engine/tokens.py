"""The simulated tokenizer and chat template: simple rules that anyone can count by.

A token is up to six letters or digits, or one other character, with the one space before it; any other white
space is a token by itself. English comes to about four characters a token, as with real tokenizers. A message
is a marker with its role, its text and an end marker; the answer follows an assistant's marker. Texts and
markers are tokenized apart, so an answer that comes back in the next prompt has the same tokens again.
"""

import re
from collections.abc import Sequence
from zlib import crc32

import msgspec

END = "<|end|>"
"""The token that ends a message. One that the engine generates has no text."""

_TOKEN = re.compile(r" ?\w{1,6}| ?[^\w\s]|\s")

tokenize = _TOKEN.findall
"""The tokens of a text; joined they are the text again."""


class TextPart(msgspec.Struct):
    type: str
    text: str = ""


class WireMessage(msgspec.Struct):
    role: str
    content: str | list[TextPart] | None = None
    tool_calls: list[msgspec.Raw] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


def prompt_tokens(
    messages: Sequence[WireMessage], tools: bytes | None = None, *, unfinished: bool = False
) -> list[str]:
    """The whole prompt. With `unfinished` the last message's text is left out and its end open: the answer
    begins, or goes on, there."""
    tokens: list[str] = []
    if tools is not None:
        tokens += ["<|tools|>", *tokenize(tools.decode()), END]
    for message in messages[:-1] if unfinished else messages:
        tokens.append(f"<|{message.role}|>")
        tokens += tokenize(message.text)
        for call in message.tool_calls or ():
            tokens += tokenize(bytes(call).decode())
        tokens.append(END)
    tokens.append("<|assistant|>")
    return tokens


def token_id(token: str) -> int:
    """A number for a token, for those who want numbers; two tokens may share one."""
    return crc32(token.encode())
