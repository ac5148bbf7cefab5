"""Forced tool calls for an engine that ignores `tool_choice` but obeys a JSON schema.

The answer's schema is "a call of one of these tools": its text is then JSON of the form
`{"name": …, "arguments": {…}}`, which is turned back into a tool call while it streams.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from triplane.domain.completion import FunctionSpec, NamedTool, Tool, ToolChoice
from triplane.domain.errors import EngineFailed, InvalidRequest
from triplane.domain.events import EngineEvent, FinishReason, ToolCallDelta
from triplane.domain.ids import new_id

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)')
_CLOSING = re.compile(r"[\s}]*\Z")


def forced_tools(tools: Sequence[Tool] | None, choice: ToolChoice | None) -> list[FunctionSpec]:
    """The functions one of which has to be called; none if the model is free. Raises InvalidRequest."""
    functions = [tool.function for tool in tools or ()]
    if choice == "required":
        if not functions:
            raise InvalidRequest("A tool is required but there are no tools.", param="tool_choice")
        return functions
    if isinstance(choice, NamedTool):
        named = [function for function in functions if function.name == choice.function.name]
        if not named:
            raise InvalidRequest(
                f"The tool {choice.function.name!r} isn't among the tools.", param="tool_choice"
            )
        return named
    return []


def call_schema(functions: Sequence[FunctionSpec]) -> dict[str, Any]:
    """The JSON schema of a call of one of these functions."""
    definitions: dict[str, Any] = {}
    calls: list[dict[str, Any]] = []
    for index, function in enumerate(functions):
        name = f"arguments{index}"
        definitions[name] = _moved({"type": "object", **(function.parameters or {})}, f"#/$defs/{name}")
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": function.name},
                    "arguments": {"$ref": f"#/$defs/{name}"},
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return {"$defs": definitions, **(calls[0] if len(calls) == 1 else {"anyOf": calls})}


def _moved(schema: Any, root: str) -> Any:
    """The schema with its local references pointing to where it now lives."""
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: root + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, root)
        for key, value in schema.items()
    }


class ForcedCall:
    """The text of a forced call on its way to becoming one tool call, its arguments as they come."""

    def __init__(self) -> None:
        self._head = ""
        self._named = False
        self._held = ""
        self._arguments: list[str] = []

    def push(self, text: str, events: list[EngineEvent]) -> None:
        if self._named:
            self._pass_on(text, events)
            return
        self._head += text
        match = _HEAD.match(self._head)
        if match is None:
            return
        self._named = True
        events.append(ToolCallDelta(index=0, id=new_id("call"), name=json.loads(match[1])))
        self._pass_on(self._head[match.end() :], events)

    def end(self, reason: FinishReason, events: list[EngineEvent]) -> FinishReason:
        """The call is complete, or was cut off by a limit. Raises EngineFailed if it is no call at all."""
        if reason != "stop":
            self._emit(self._held, events)
            return reason
        self._emit(self._held.rstrip().removesuffix("}").rstrip(), events)
        try:
            arguments = msgspec.json.decode("".join(self._arguments))
        except msgspec.DecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            raise EngineFailed("The engine was asked for a tool call and answered with something else.")
        return "tool_calls"

    def _pass_on(self, text: str, events: list[EngineEvent]) -> None:
        """All but closing braces at the end: the last of them closes the call, not its arguments."""
        text = self._held + text
        match = _CLOSING.search(text)
        cut = match.start() if match else len(text)
        self._held = text[cut:]
        self._emit(text[:cut], events)

    def _emit(self, text: str, events: list[EngineEvent]) -> None:
        if text:
            self._arguments.append(text)
            events.append(ToolCallDelta(index=0, arguments=text))
