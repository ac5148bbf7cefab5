"""What is asked of an engine: messages, tools, sampling. The gateway's input, engine-neutral.

The shapes are those of OpenAI's chat completions (platform.openai.com/docs/api-reference/chat), because
that is the wire the whole field speaks; an engine of another wire translates in its own file.
"""

from typing import Any, Literal

import msgspec

Role = Literal["system", "developer", "user", "assistant", "tool"]


class TextPart(msgspec.Struct, frozen=True, tag="text", forbid_unknown_fields=True):
    text: str


class ImageUrl(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(msgspec.Struct, frozen=True, tag="image_url", forbid_unknown_fields=True):
    image_url: ImageUrl


ContentPart = TextPart | ImagePart
Content = str | list[ContentPart]


class FunctionCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that the model asks for. `arguments` is JSON text as the model wrote it."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One message of a prompt. An assistant's `content` may be None when it only calls tools."""

    role: Role
    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


def text_of(content: Content | None) -> str:
    """The text of a content, its parts joined; images have none."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content if isinstance(part, TextPart))


class FunctionSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A tool's function. `parameters` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    function: FunctionSpec
    type: Literal["function"]


class NamedFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class NamedTool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    function: NamedFunction
    type: Literal["function"]


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class JsonSchema(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextFormat(msgspec.Struct, frozen=True, tag="text", forbid_unknown_fields=True):
    pass


class JsonObjectFormat(msgspec.Struct, frozen=True, tag="json_object", forbid_unknown_fields=True):
    pass


class JsonSchemaFormat(msgspec.Struct, frozen=True, tag="json_schema", forbid_unknown_fields=True):
    json_schema: JsonSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class Sampling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How tokens are chosen and when to stop. None leaves it to the engine."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class Flow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whose request it is, as far as queues, limits and routing need to know. The names mean nothing here.

    `plan` is a name in the catalogue. Requests of one `affinity` share the beginning of their prompt (those
    of a conversation do), so the replica that served one has it in its cache. With `caches` an answer may
    come from the response cache.
    """

    tenant: str = ""
    user: str = ""
    plan: str = ""
    api_key: str | None = None
    affinity: str | None = None
    caches: bool = False


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request to the gateway.

    `request_id` names it in logs, traces and metering. `cache_salt` keeps one tenant's prefix cache from
    another's; `user` is the caller's own name for an end user, passed on as it came. With
    `continue_final_message` the last message is an assistant's and the engine goes on from its last token
    instead of answering it. `flow` says whose it is.
    """

    request_id: str
    model: str
    messages: list[Message]
    sampling: Sampling = Sampling()
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    cache_salt: str | None = None
    continue_final_message: bool = False
    flow: Flow = Flow()


Ability = Literal["tools", "vision", "json_schema", "continuation", "logprobs", "embeddings"]


class TokenPrice(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars for a million tokens, as they are shown; the bill counts with `domain/money.py`."""

    input: float
    cached: float
    output: float


class ModelOffer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What people are told of a model before they choose it. None where nobody has said it."""

    name: str
    description: str | None = None
    price: TokenPrice | None = None
    abilities: list[Ability] = []


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway can serve. `context_length` in tokens, prompt and answer together.

    One that embeds (`supports_embeddings`) may do nothing else: it has no `supports_chat` then.
    """

    id: str
    context_length: int
    owned_by: str
    created: int = 0
    supports_tools: bool = True
    supports_images: bool = False
    supports_continuation: bool = False
    offer: ModelOffer | None = None
    supports_embeddings: bool = False
    supports_chat: bool = True
