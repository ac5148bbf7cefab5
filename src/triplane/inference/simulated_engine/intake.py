"""From a chat completion's body to what the scheduler needs: its prompt and the answer that it will get.

What vLLM refuses with status 400 or 404 is refused here with the same status.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from triplane.inference.simulated_engine import answers, wire
from triplane.inference.simulated_engine.answers import Answer, Wanted
from triplane.inference.simulated_engine.json_examples import example
from triplane.inference.simulated_engine.options import SchedulingPolicy
from triplane.inference.simulated_engine.tokens import WireMessage, prompt_tokens, tokenize
from triplane.inference.simulated_engine.wire import ChatRequest, Rejected

_decode = msgspec.json.Decoder(ChatRequest).decode
_decode_tool = msgspec.json.Decoder(wire.Tool).decode


@dataclass(frozen=True)
class Planned:
    """`tool` is the forced call's function; the answer is its arguments then."""

    request: ChatRequest
    prompt: list[str]
    answer: Answer
    tool: str | None


@dataclass(frozen=True)
class Intake:
    model_id: str
    max_model_len: int
    policy: SchedulingPolicy
    answer_tokens: int | None

    def plan(self, body: bytes) -> Planned:
        """Raises Rejected."""
        request = self._read(body)
        begun = request.messages[-1].text if request.continue_final_message else ""
        tools = [_decode_tool(tool) for tool in request.tools or ()]
        listed = b"[" + b",".join(map(bytes, request.tools)) + b"]" if request.tools else None
        base = prompt_tokens(request.messages, listed, unfinished=request.continue_final_message)
        prompt = [*base, *tokenize(begun)]
        wanted = self._wanted(request, len(prompt), begun)
        seed = answers.answer_seed(base, request.seed)
        tool = _forced(request, tools, seed)
        if tool is not None:
            answer = answers.of_text(_json(tool.parameters, seed), "tool_calls", wanted)
        elif request.response_format is not None and request.response_format.type != "text":
            text = _formatted(request.response_format, seed)
            answer = answers.of_text(text.removeprefix(begun), "stop", wanted)
        else:
            answer = answers.plan(seed, wanted)
        return Planned(request, prompt, answer, tool.name if tool else None)

    def _read(self, body: bytes) -> ChatRequest:
        try:
            request = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Rejected(400, f"The request can't be read: {error}") from None
        if request.model and request.model != self.model_id:
            raise Rejected(404, f"The model `{request.model}` does not exist.", "model")
        if not request.messages:
            raise Rejected(400, "There are no messages.", "messages")
        if request.n != 1:
            raise Rejected(400, "The simulated engine gives one answer: n must be 1.", "n")
        if request.priority and self.policy != "priority":
            raise Rejected(400, "Priorities need --scheduling-policy priority.", "priority")
        if request.cache_salt == "":
            raise Rejected(400, "cache_salt must be a text that isn't empty.", "cache_salt")
        _check_messages(request)
        return request

    def _wanted(self, request: ChatRequest, prompt: int, begun: str) -> Wanted:
        room = self.max_model_len - prompt
        most = request.max_completion_tokens or request.max_tokens
        if room < 1 or (most or 1) > room:
            raise Rejected(
                400,
                f"This model's maximum context length is {self.max_model_len} tokens, but the prompt has "
                f"{prompt} and {most or 1} more were asked for.",
                "messages" if room < 1 else "max_tokens",
            )
        return Wanted(
            most=most or room,
            least=request.min_tokens,
            is_endless=request.ignore_eos,
            stop=[request.stop] if isinstance(request.stop, str) else request.stop or (),
            begun=begun,
            length=self.answer_tokens,
        )


def _check_messages(request: ChatRequest) -> None:
    if request.continue_final_message:
        if request.add_generation_prompt:
            raise Rejected(400, "continue_final_message needs add_generation_prompt to be false.")
        if request.messages[-1].role != "assistant":
            raise Rejected(400, "Only an assistant's message can be continued.", "messages")
    for message in request.messages:
        check_parts(message)


def check_parts(message: WireMessage) -> None:
    """Raises Rejected for what isn't text."""
    if isinstance(message.content, list) and any(part.type != "text" for part in message.content):
        raise Rejected(400, "The simulated engine reads text only.", "messages")


def _forced(request: ChatRequest, tools: Sequence[wire.Tool], seed: int) -> wire.NamedFunction | None:
    """The function that has to be called, if the request says so."""
    if isinstance(request.tool_choice, wire.Tool):
        name = request.tool_choice.function.name
        for tool in tools:
            if tool.function.name == name:
                return tool.function
        raise Rejected(400, f"tool_choice names {name!r}, which isn't among the tools.", "tool_choice")
    if request.tool_choice == "required":
        if not tools:
            raise Rejected(400, "tool_choice is required, but there are no tools.", "tool_choice")
        return Random(seed).choice(tools).function
    return None


def _formatted(wanted: wire.ResponseFormat, seed: int) -> str:
    schema = wanted.json_schema.schema if wanted.json_schema else None
    return _json(schema or {"type": "object", "properties": {"answer": {}}}, seed)


def _json(schema: dict[str, Any] | None, seed: int) -> str:
    return msgspec.json.encode(example(schema or {"type": "object"}, Random(seed))).decode()
