"""The shapes of the Messages API: requests, whole messages, the events of a stream, errors."""

from typing import Annotated, Any, Literal

import msgspec


class CacheControl(msgspec.Struct, tag="ephemeral", omit_defaults=True, forbid_unknown_fields=True):
    """Marks the end of a prefix that is worth keeping in the cache."""

    ttl: Literal["5m", "1h"] | None = None


class TextBlock(msgspec.Struct, kw_only=True, tag="text", omit_defaults=True, forbid_unknown_fields=True):
    text: str
    citations: Any = None
    cache_control: CacheControl | None = None


class Base64Source(msgspec.Struct, kw_only=True, tag="base64", forbid_unknown_fields=True):
    media_type: str
    data: str


class UrlSource(msgspec.Struct, kw_only=True, tag="url", forbid_unknown_fields=True):
    url: str


class ImageBlock(msgspec.Struct, kw_only=True, tag="image", omit_defaults=True, forbid_unknown_fields=True):
    source: Base64Source | UrlSource
    cache_control: CacheControl | None = None


class ToolUseBlock(
    msgspec.Struct, kw_only=True, tag="tool_use", omit_defaults=True, forbid_unknown_fields=True
):
    """A call by the model. `input` is a JSON object, as it was written."""

    id: str
    name: str
    input: msgspec.Raw
    caller: Any = None
    toolset_name: str | None = None
    cache_control: CacheControl | None = None


class ToolResultBlock(
    msgspec.Struct, kw_only=True, tag="tool_result", omit_defaults=True, forbid_unknown_fields=True
):
    tool_use_id: str
    content: str | list[TextBlock | ImageBlock] | None = None
    is_error: bool = False
    toolset_name: str | None = None
    cache_control: CacheControl | None = None


class ThinkingBlock(msgspec.Struct, kw_only=True, tag="thinking", forbid_unknown_fields=True):
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(
    msgspec.Struct, kw_only=True, tag="redacted_thinking", forbid_unknown_fields=True
):
    data: str


InputBlock = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock | RedactedThinkingBlock


class InputMessage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[InputBlock]


class InputTool(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A tool of the client's. The vendor's own tools have another `type` and aren't known here."""

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    cache_control: CacheControl | None = None


class AutoChoice(msgspec.Struct, kw_only=True, tag="auto", omit_defaults=True, forbid_unknown_fields=True):
    disable_parallel_tool_use: bool = False


class AnyChoice(msgspec.Struct, kw_only=True, tag="any", omit_defaults=True, forbid_unknown_fields=True):
    disable_parallel_tool_use: bool = False


class OneChoice(msgspec.Struct, kw_only=True, tag="tool", omit_defaults=True, forbid_unknown_fields=True):
    name: str
    disable_parallel_tool_use: bool = False


class NoChoice(msgspec.Struct, kw_only=True, tag="none", forbid_unknown_fields=True):
    pass


WireToolChoice = AutoChoice | AnyChoice | OneChoice | NoChoice


class SchemaFormat(msgspec.Struct, kw_only=True, tag="json_schema", forbid_unknown_fields=True):
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    format: SchemaFormat | None = None


class NoThinking(msgspec.Struct, tag="disabled", forbid_unknown_fields=True):
    pass


class Metadata(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    user_id: str | None = None


class MessagesBody(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of `POST /v1/messages`: what of it is supported; anything else is refused, not dropped."""

    model: str
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    messages: list[InputMessage]
    system: str | list[TextBlock] | None = None
    tools: list[InputTool] | None = None
    tool_choice: WireToolChoice | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    stream: bool = False
    metadata: Metadata | None = None
    output_config: OutputConfig | None = None
    thinking: NoThinking | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    cache_control: CacheControl | None = None


class CountBody(MessagesBody, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of `POST /v1/messages/count_tokens`: the same, with nothing said of the answer's length."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)] = 1


class WireUsage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`input_tokens` leaves out what was read from the cache or written to it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


StopReason = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
]


class WholeMessage(msgspec.Struct, kw_only=True):
    """An answer that isn't streamed, and the one that a stream begins with."""

    id: str
    model: str
    content: list[TextBlock | ToolUseBlock]
    stop_reason: StopReason | None
    usage: WireUsage
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    stop_sequence: str | None = None


class ErrorFields(msgspec.Struct, kw_only=True):
    type: str
    message: str


class WireError(msgspec.Struct, kw_only=True, tag="error", omit_defaults=True):
    """Every error, as a response's body or as an event of a stream."""

    error: ErrorFields
    request_id: str | None = None
