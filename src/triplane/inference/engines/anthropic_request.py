"""A completion request as the Messages API takes it. Its rules, and what is done about each:

- system messages are one field in front: those that begin the prompt go there; a later one stays where it
  is, as text on the user's side (only newer models know the role in the middle), so that the prefix stays
  the same and nothing gains authority;
- a message without text is refused: it is left out. Neighbours of one role become one message, because
  results of tools have to stand in the very next message;
- the first message is the user's: a prompt that begins with an answer gets `…` in front;
- calls in the history need tools in the request: if there are none, they are declared from the calls, and
  not to be called;
- ids of calls are of `[a-zA-Z0-9_-]`; arguments are objects: anything else is wrapped in one;
- `max_tokens` has to be said;
- a final message of the assistant is gone on from, whether that was meant or not. It may not end in
  whitespace: that is cut off, and later taken off the beginning of what comes (`anthropic_reader`);
- `seed`, penalties, logit biases and log probabilities don't exist: refused by name. `detail` of an image is
  a hint, and left out. Newer models refuse `temperature` and `top_p` too: their own refusal says so.
"""

import re
from typing import Literal

import msgspec

from triplane.domain.anthropic.wire import (
    AnyChoice,
    AutoChoice,
    Base64Source,
    CacheControl,
    ImageBlock,
    InputBlock,
    InputMessage,
    InputTool,
    MessagesBody,
    Metadata,
    NoChoice,
    OneChoice,
    OutputConfig,
    SchemaFormat,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
    WireToolChoice,
)
from triplane.domain.completion import (
    CompletionRequest,
    Content,
    ImagePart,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    Sampling,
    TextPart,
    ToolCall,
    text_of,
)
from triplane.domain.errors import InvalidRequest, UnsupportedParameter
from triplane.inference.engines.opaque_names import opaque_name

CACHED = CacheControl()
MISSING_QUESTION = "…"
_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_DATA_URL = re.compile(r"data:(?P<media_type>[\w.+-]+/[\w.+-]+);base64,(?P<data>.*)\Z", re.DOTALL)
_SYSTEM = ("system", "developer")

Side = Literal["user", "assistant"]


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent, and the whitespace that was cut off the end of what has to be gone on from."""

    body: MessagesBody
    cut_off: str = ""


def messages_prompt(
    request: CompletionRequest, model: str, default_max_tokens: int, *, mark_prefix: bool = True
) -> Prompt:
    """The streaming request; `mark_prefix` asks the API to cache what the next request begins with too.

    Raises InvalidRequest, UnsupportedParameter.
    """
    _require_supported(request.sampling)
    messages, cut_off = _conversation(request.messages)
    user = request.user
    body = MessagesBody(
        model=model,
        max_tokens=request.sampling.max_tokens or default_max_tokens,
        system=_system(request.messages) or None,
        messages=messages,
        tools=_tools(request) or None,
        tool_choice=_choice(request),
        stop_sequences=request.sampling.stop,
        temperature=request.sampling.temperature,
        top_p=request.sampling.top_p,
        metadata=Metadata(user_id=opaque_name(request.flow.tenant, user)) if user else None,
        output_config=_output(request),
        stream=True,
    )
    if mark_prefix:
        _mark_stable_prefix(body)
    return Prompt(body=body, cut_off=cut_off)


def _require_supported(sampling: Sampling) -> None:
    asked = {
        "seed": sampling.seed is not None,
        "presence_penalty": bool(sampling.presence_penalty),
        "frequency_penalty": bool(sampling.frequency_penalty),
        "logit_bias": bool(sampling.logit_bias),
        "logprobs": bool(sampling.logprobs),
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise UnsupportedParameter(f"The engine of this model doesn't know `{name}`.", param=name)


def _leading_system(messages: list[Message]) -> int:
    return next((at for at, message in enumerate(messages) if message.role not in _SYSTEM), len(messages))


def _system(messages: list[Message]) -> list[TextBlock]:
    blocks = [_blocks(message.content) for message in messages[: _leading_system(messages)]]
    return [block for each in blocks for block in each if isinstance(block, TextBlock)]


def _conversation(messages: list[Message]) -> tuple[list[InputMessage], str]:
    wire: list[InputMessage] = []
    for message in messages[_leading_system(messages) :]:
        role, blocks = _turn(message)
        if not blocks:
            continue
        if wire and wire[-1].role == role:
            _content(wire[-1]).extend(blocks)
        else:
            wire.append(InputMessage(role=role, content=blocks))
    if not wire:
        raise InvalidRequest("There is no text to answer.", param="messages")
    if wire[0].role == "assistant":
        wire.insert(0, InputMessage(role="user", content=[TextBlock(text=MISSING_QUESTION)]))
    if wire[-1].role == "assistant":
        _end_without_whitespace(wire[-1])
    return wire, _whitespace_at_the_end(messages[-1])


def _turn(message: Message) -> tuple[Side, list[InputBlock]]:
    if message.role == "assistant":
        return "assistant", [*_blocks(message.content), *(_call(call) for call in message.tool_calls or ())]
    if message.role == "tool":
        result = ToolResultBlock(
            tool_use_id=_id(message.tool_call_id or ""), content=_blocks(message.content) or None
        )
        return "user", [result]
    return "user", [*_blocks(message.content)]


def _blocks(content: Content | None) -> list[TextBlock | ImageBlock]:
    parts = content if isinstance(content, list) else [TextPart(content or "")]
    return [
        _image(part) if isinstance(part, ImagePart) else TextBlock(text=part.text)
        for part in parts
        if isinstance(part, ImagePart) or part.text.strip()
    ]


def _image(part: ImagePart) -> ImageBlock:
    url = part.image_url.url
    if url.startswith(("https://", "http://")):
        return ImageBlock(source=UrlSource(url=url))
    data = _DATA_URL.match(url)
    if data is None:
        raise InvalidRequest("An image is a http(s) address or a base64 data URL.", param="messages")
    return ImageBlock(source=Base64Source(media_type=data["media_type"], data=data["data"]))


def _call(call: ToolCall) -> ToolUseBlock:
    text = call.function.arguments
    try:
        arguments = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        arguments = text
    raw = text.strip().encode() or b"{}"
    if not isinstance(arguments, dict):
        raw = msgspec.json.encode({"arguments": text})
    return ToolUseBlock(id=_id(call.id), name=call.function.name, input=msgspec.Raw(raw))


def _id(id_: str) -> str:
    return _NOT_IN_AN_ID.sub("_", id_)


def _content(message: InputMessage) -> list[InputBlock]:
    assert isinstance(message.content, list), "built here, of blocks"
    return message.content


def _end_without_whitespace(message: InputMessage) -> None:
    last = _content(message)[-1]
    if not isinstance(last, TextBlock):
        raise InvalidRequest("The last message has tool calls without their results.", param="messages")
    last.text = last.text.rstrip()


def _whitespace_at_the_end(message: Message) -> str:
    """Of a final message of the assistant, even if it is nothing else and isn't sent."""
    text = text_of(message.content) if message.role == "assistant" else ""
    return text[len(text.rstrip()) :]


def _tools(request: CompletionRequest) -> list[InputTool]:
    if request.tools:
        functions = [tool.function for tool in request.tools]
        return [
            InputTool(
                name=function.name,
                description=function.description,
                input_schema={"type": "object", **(function.parameters or {})},
                strict=function.strict,
            )
            for function in functions
        ]
    names = {call.function.name: None for message in request.messages for call in message.tool_calls or ()}
    return [InputTool(name=name, input_schema={"type": "object"}) for name in names]


def _choice(request: CompletionRequest) -> WireToolChoice | None:
    choice, alone = request.tool_choice, request.parallel_tool_calls is False
    if not request.tools:
        if choice not in (None, "none", "auto"):
            raise InvalidRequest("A tool is required but there are no tools.", param="tool_choice")
        return NoChoice() if _tools(request) else None
    if choice == "none":
        return NoChoice()
    if choice == "required":
        return AnyChoice(disable_parallel_tool_use=alone)
    if choice is None or choice == "auto":
        return AutoChoice(disable_parallel_tool_use=True) if alone else (AutoChoice() if choice else None)
    return OneChoice(name=choice.function.name, disable_parallel_tool_use=alone)


def _output(request: CompletionRequest) -> OutputConfig | None:
    wanted = request.response_format
    if isinstance(wanted, JsonObjectFormat):
        raise UnsupportedParameter(
            "The engine of this model knows no JSON without a schema: use `json_schema`.",
            param="response_format",
        )
    if not isinstance(wanted, JsonSchemaFormat):
        return None
    return OutputConfig(format=SchemaFormat(schema=wanted.json_schema.schema or {"type": "object"}))


def _mark_stable_prefix(body: MessagesBody) -> None:
    """Ends of what a later request begins with again: the tools, the system, all but what is new."""
    if body.tools:
        body.tools[-1].cache_control = CACHED
    if isinstance(body.system, list):
        body.system[-1].cache_control = CACHED
    if len(body.messages) > 1:
        last = _content(body.messages[-2])[-1]
        if isinstance(last, TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock):
            last.cache_control = CACHED
