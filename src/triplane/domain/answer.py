"""An answer put together from its pieces."""

from typing import Any

from triplane.domain.completion import FunctionCall, ToolCall
from triplane.domain.events import Delta, EngineEvent, ToolCallDelta, TurnEvent


class GrowingAnswer:
    """Takes the events of a completion or a turn in order; has the text and tool calls so far."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._calls: dict[int, ToolCall] = {}

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def pieces(self) -> int:
        """How many pieces of text there are: it tells cheaply whether the text has grown."""
        return len(self._pieces)

    @property
    def logprobs(self) -> list[dict[str, Any]] | None:
        return self._logprobs or None

    @property
    def tool_calls(self) -> list[ToolCall] | None:
        return [self._calls[index] for index in sorted(self._calls)] or None

    def add(self, event: EngineEvent | TurnEvent) -> None:
        """Add a piece; events of other kinds change nothing."""
        if isinstance(event, Delta):
            self._pieces.append(event.text)
            self._logprobs.extend(event.logprobs or ())
        elif isinstance(event, ToolCallDelta):
            self._calls[event.index] = _joined(self._calls.get(event.index), event)


def _joined(known: ToolCall | None, piece: ToolCallDelta) -> ToolCall:
    call_id, name, arguments = "", "", ""
    if known:
        call_id, name, arguments = known.id, known.function.name, known.function.arguments
    return ToolCall(
        id=call_id or piece.id or "",
        function=FunctionCall(name=name + (piece.name or ""), arguments=arguments + piece.arguments),
    )
