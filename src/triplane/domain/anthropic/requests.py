"""A Messages request from a client, as the engine-neutral request that the gateway takes.

What has no place there is refused by name. Hints are accepted and left out: `cache_control` (engines get
their own), `service_tier`, the thinking of earlier turns, which the API itself doesn't read again.
"""

from collections.abc import Callable

import msgspec

from triplane.domain.anthropic.wire import (
    AnyChoice,
    Base64Source,
    CountBody,
    ImageBlock,
    InputBlock,
    InputMessage,
    InputTool,
    MessagesBody,
    NoChoice,
    OneChoice,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from triplane.domain.completion import (
    CompletionRequest,
    Content,
    ContentPart,
    FunctionCall,
    FunctionSpec,
    ImagePart,
    ImageUrl,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    NamedFunction,
    NamedTool,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from triplane.domain.errors import InvalidRequest

_decode = msgspec.json.Decoder(MessagesBody).decode
_decode_count = msgspec.json.Decoder(CountBody).decode
_FAILED = "The tool failed: "


class MessagesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for, and whether it wants the answer as a stream."""

    completion: CompletionRequest
    stream: bool


def parse_messages_request(body: bytes, request_id: str) -> MessagesRequest:
    """The request in this body. Raises InvalidRequest, which says where it is wrong."""
    decoded = _decoded(body, _decode)
    return MessagesRequest(completion=as_completion(decoded, request_id), stream=decoded.stream)


def parse_count_request(body: bytes, request_id: str) -> CompletionRequest:
    """The request whose tokens are to be counted. Raises InvalidRequest."""
    return as_completion(_decoded(body, _decode_count), request_id)


def counted_messages(request: CompletionRequest) -> list[Message]:
    """What stands for the request when its tokens are counted: tools are their JSON, in a message more."""
    if not request.tools:
        return request.messages
    tools = Message(role="system", content=msgspec.json.encode(request.tools).decode())
    return [tools, *request.messages]


def _decoded(body: bytes, decode: Callable[[bytes], MessagesBody]) -> MessagesBody:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body can't be read: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("The body is not valid JSON.") from None


def as_completion(body: MessagesBody, request_id: str) -> CompletionRequest:
    """The same request in our words. A final message of the assistant is gone on from.

    Raises InvalidRequest.
    """
    messages: list[Message] = []
    if body.system:
        messages.append(Message(role="system", content=_content_of(body.system)))
    for index, message in enumerate(body.messages):
        path = f"messages[{index}].content"
        if message.role == "assistant":
            messages += _from_assistant(message, path)
        else:
            messages += _from_user(message, message.role, path)
    if all(message.role == "system" for message in messages):
        raise InvalidRequest("There is no message to answer.", param="messages")
    if messages[-1].tool_calls:
        raise InvalidRequest("The last message has tool calls without their results.", param="messages")
    return CompletionRequest(
        request_id=request_id,
        model=body.model,
        messages=messages,
        sampling=Sampling(
            temperature=body.temperature,
            top_p=body.top_p,
            max_tokens=body.max_tokens,
            stop=body.stop_sequences or None,
        ),
        tools=[_tool(tool) for tool in body.tools] if body.tools else None,
        tool_choice=_choice(body),
        parallel_tool_calls=_parallel(body),
        response_format=_format(body),
        user=body.metadata.user_id if body.metadata else None,
        continue_final_message=messages[-1].role == "assistant",
    )


def _from_user(message: InputMessage, role: Role, path: str) -> list[Message]:
    """Results of tools are messages of their own; what stands between them is the user's, or the system's."""
    if isinstance(message.content, str):
        return [Message(role=role, content=message.content)] if message.content else []
    messages: list[Message] = []
    parts: list[TextBlock | ImageBlock] = []
    for index, block in enumerate(message.content):
        if isinstance(block, TextBlock) or (isinstance(block, ImageBlock) and role == "user"):
            parts.append(block)
        elif isinstance(block, ToolResultBlock) and role == "user":
            messages += _message_of(parts, role)
            parts = []
            messages.append(_from_tool(block))
        else:
            raise _misplaced(block, role, f"{path}[{index}]")
    return [*messages, *_message_of(parts, role)]


def _message_of(parts: list[TextBlock | ImageBlock], role: Role) -> list[Message]:
    return [Message(role=role, content=_content_of(parts))] if parts else []


def _from_tool(block: ToolResultBlock) -> Message:
    content = _content_of(block.content or "")
    if block.is_error:
        content = _FAILED + content if isinstance(content, str) else [TextPart(_FAILED.strip()), *content]
    return Message(role="tool", content=content, tool_call_id=block.tool_use_id)


def _from_assistant(message: InputMessage, path: str) -> list[Message]:
    if isinstance(message.content, str):
        return [Message(role="assistant", content=message.content)] if message.content else []
    texts: list[str] = []
    calls: list[ToolCall] = []
    for index, block in enumerate(message.content):
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolUseBlock):
            calls.append(_call(block, f"{path}[{index}].input"))
        elif not isinstance(block, ThinkingBlock | RedactedThinkingBlock):
            raise _misplaced(block, "assistant", f"{path}[{index}]")
    text = "".join(texts)
    if not text and not calls:
        return []
    return [Message(role="assistant", content=text or None, tool_calls=calls or None)]


def _call(block: ToolUseBlock, path: str) -> ToolCall:
    arguments = bytes(block.input).decode()
    if not arguments.startswith("{"):
        raise InvalidRequest("A tool's input is an object.", param=path)
    return ToolCall(id=block.id, function=FunctionCall(name=block.name, arguments=arguments))


def _misplaced(block: InputBlock, role: str, path: str) -> InvalidRequest:
    kind = type(block).__struct_config__.tag
    return InvalidRequest(f"A block of type {kind!r} has no place in a message of the {role}.", param=path)


def _content_of(content: str | list[TextBlock | ImageBlock] | list[TextBlock]) -> Content:
    if isinstance(content, str):
        return content
    parts = [_part(block) for block in content]
    return parts[0].text if len(parts) == 1 and isinstance(parts[0], TextPart) else parts


def _part(block: TextBlock | ImageBlock) -> ContentPart:
    if isinstance(block, TextBlock):
        return TextPart(block.text)
    source = block.source
    if isinstance(source, Base64Source):
        return ImagePart(ImageUrl(f"data:{source.media_type};base64,{source.data}"))
    return ImagePart(ImageUrl(source.url))


def _tool(tool: InputTool) -> Tool:
    function = FunctionSpec(
        name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
    )
    return Tool(type="function", function=function)


def _choice(body: MessagesBody) -> ToolChoice | None:
    choice = body.tool_choice
    if choice is None:
        return None
    if isinstance(choice, AnyChoice):
        return "required"
    if isinstance(choice, OneChoice):
        return NamedTool(type="function", function=NamedFunction(choice.name))
    return "none" if isinstance(choice, NoChoice) else "auto"


def _parallel(body: MessagesBody) -> bool | None:
    choice = body.tool_choice
    return False if choice and not isinstance(choice, NoChoice) and choice.disable_parallel_tool_use else None


def _format(body: MessagesBody) -> ResponseFormat | None:
    if body.output_config is None or body.output_config.format is None:
        return None
    return JsonSchemaFormat(JsonSchema(name="answer", schema=body.output_config.format.schema))
