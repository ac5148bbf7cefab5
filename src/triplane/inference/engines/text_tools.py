"""Tools for a model whose chat template knows none: described in the system message, called in tagged text.

The form is the one that most open models have seen in training (Hermes): the model writes
`<tool_call>{"name": …, "arguments": {…}}</tool_call>`. Text that only looks like a call stays text.
"""

from collections.abc import Sequence

import msgspec

from triplane.domain.completion import FunctionSpec, Message, text_of
from triplane.domain.events import Delta, EngineEvent, FinishReason, ToolCallDelta
from triplane.domain.ids import new_id

OPEN = "<tool_call>"
CLOSE = "</tool_call>"


class TaggedCall(msgspec.Struct):
    name: str
    arguments: dict[str, object] = {}


_decode_calls = msgspec.json.Decoder(TaggedCall | list[TaggedCall]).decode


def with_tools_described(
    messages: Sequence[Message], functions: Sequence[FunctionSpec], how_to_call: str
) -> list[Message]:
    """The messages with the functions' description behind the system message's text."""
    listed = "\n".join(msgspec.json.encode(function).decode() for function in functions)
    description = f"You can call these functions:\n<tools>\n{listed}\n</tools>\n{how_to_call}"
    if messages and messages[0].role in ("system", "developer"):
        policy = text_of(messages[0].content)
        return [Message(role="system", content=f"{policy}\n\n{description}"), *messages[1:]]
    return [Message(role="system", content=description), *messages]


FREE_CALL = (
    f'To call one, write {OPEN}{{"name": NAME, "arguments": {{…}}}}{CLOSE} and nothing else. '
    "Call one only if it helps; otherwise just answer."
)
FORCED_CALL = 'Answer with one call as JSON: {"name": NAME, "arguments": {…}}'


def without_tool_roles(message: Message) -> Message:
    """The message with its calls or its tool result as text, for a template that would drop them."""
    if message.role == "tool":
        return Message(role="user", content=f"<tool_response>\n{text_of(message.content)}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = "\n".join(
        f'{OPEN}{{"name": {msgspec.json.encode(call.function.name).decode()}, '
        f'"arguments": {call.function.arguments}}}{CLOSE}'
        for call in message.tool_calls
    )
    return Message(role="assistant", content="\n".join(filter(None, (text_of(message.content), calls))))


class TaggedCalls:
    """An answer's text on its way, with the calls in it taken out."""

    def __init__(self, names: frozenset[str], at_most: int | None) -> None:
        self._names = names
        self._at_most = at_most
        self._text = ""
        self._in_call = False
        self._calls = 0

    def push(self, text: str, events: list[EngineEvent]) -> None:
        self._text += text
        while self._step(events, len(text)):
            pass

    def end(self, reason: FinishReason, events: list[EngineEvent]) -> FinishReason:
        """What is left: a call whose closing tag the model forgot, or text."""
        rest, self._text = self._text, ""
        if self._in_call:
            self._take_call(rest, "", events)
        elif rest:
            events.append(Delta(text=rest))
        return "tool_calls" if self._calls and reason == "stop" else reason

    def _step(self, events: list[EngineEvent], new: int) -> bool:
        """Move past the next tag; False when there is none yet."""
        tag = CLOSE if self._in_call else OPEN
        at = self._text.find(tag, max(0, len(self._text) - new - len(tag)) if self._in_call else 0)
        if at < 0:
            if not self._in_call:
                self._let_go(len(self._text) - _overlap(self._text, OPEN), events)
            return False
        inside = self._in_call
        if inside:
            self._take_call(self._text[:at], CLOSE, events)
            self._text = self._text[at + len(tag) :]
        else:
            self._let_go(at, events)
            self._text = self._text[len(tag) :]
        self._in_call = not inside
        return True

    def _let_go(self, upto: int, events: list[EngineEvent]) -> None:
        if upto:
            events.append(Delta(text=self._text[:upto]))
            self._text = self._text[upto:]

    def _take_call(self, inner: str, closing: str, events: list[EngineEvent]) -> None:
        try:
            decoded = _decode_calls(inner)
        except msgspec.DecodeError:
            decoded = []
        calls = decoded if isinstance(decoded, list) else [decoded]
        if not calls or any(call.name not in self._names for call in calls):
            events.append(Delta(text=f"{OPEN}{inner}{closing}"))
            return
        for call in calls:
            if self._at_most is None or self._calls < self._at_most:
                arguments = msgspec.json.encode(call.arguments).decode()
                events.append(
                    ToolCallDelta(index=self._calls, id=new_id("call"), name=call.name, arguments=arguments)
                )
                self._calls += 1


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of the text may be the beginning of the tag."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:n])), 0)
