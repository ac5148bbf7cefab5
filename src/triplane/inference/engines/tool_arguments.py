"""The tool calls of a stream on their way: named once, their arguments an object and not a text of one.

Some engines (vLLM with a named tool was seen to) send the arguments twice encoded: a JSON string that
holds the object's text. It is held back and decoded; everything else passes as it comes.
"""

import msgspec

from triplane.domain.errors import EngineFailed
from triplane.domain.events import EngineEvent, FinishReason, ToolCallDelta
from triplane.domain.ids import new_id

MAX_HELD_CHARS = 2**20

_decode = msgspec.json.decode


class _Call:
    """What has come of one call. `held` is the text of a string of which the end hasn't come yet."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.held: list[str] | None = None
        self.held_chars = 0
        self.has_begun = False


class ToolArguments:
    """`is_forced`: the caller has asked for a call, so arguments that are no object are a failure.

    Free calls pass as the model wrote them: whoever runs the tool answers the model's mistakes.
    """

    def __init__(self, is_forced: bool) -> None:
        self._is_forced = is_forced
        self._calls: dict[int, _Call] = {}
        self._named: set[int] = set()

    @property
    def has_calls(self) -> bool:
        return bool(self._named)

    def push(
        self, index: int, id_: str | None, name: str | None, arguments: str, events: list[EngineEvent]
    ) -> None:
        """A piece of the call at `index`, as the engine sent it."""
        if name and index not in self._named:
            self._named.add(index)
            id_ = id_ or new_id("call")
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = _Call()
        shown = self._take(call, arguments)
        if shown or id_ or name:
            events.append(ToolCallDelta(index=index, id=id_ or None, name=name or None, arguments=shown))

    def end(self, reason: FinishReason, events: list[EngineEvent]) -> None:
        """The answer is whole. Raises EngineFailed if a forced call's arguments are no object."""
        for index, call in self._calls.items():
            if call.held is not None:
                text = _unwrapped("".join(call.held))
                call.held = None
                call.passed.append(text)
                events.append(ToolCallDelta(index=index, arguments=text))
            if self._is_forced and reason != "length" and not _is_object("".join(call.passed)):
                raise EngineFailed("The engine was asked for a tool call and gave no usable arguments.")

    def _take(self, call: _Call, arguments: str) -> str:
        """What may be shown now."""
        if not call.has_begun and arguments.strip():
            call.has_begun = True
            if arguments.lstrip().startswith('"'):
                call.held = []
        if call.held is None:
            if self._is_forced:
                call.passed.append(arguments)
            return arguments
        call.held.append(arguments)
        call.held_chars += len(arguments)
        if call.held_chars > MAX_HELD_CHARS:
            raise EngineFailed("The engine sent a tool call that is too large.")
        return ""


def _unwrapped(text: str) -> str:
    """The object's text inside a JSON string; anything else as it is."""
    try:
        inner = _decode(text, type=str)
    except msgspec.DecodeError:
        return text
    return inner if _is_object(inner) else text


def _is_object(text: str) -> bool:
    try:
        return isinstance(_decode(text or "{}"), dict)
    except msgspec.DecodeError:
        return False
