"""OpenAI's chat completions wire: the request as it arrives, the answer as it leaves.

Shapes: platform.openai.com/docs/api-reference/chat. A field that isn't here is refused by its name; none is
dropped in silence.
"""

from typing import Annotated, Any, Literal

import msgspec

from triplane.domain.completion import (
    CompletionRequest,
    Content,
    ContentPart,
    Flow,
    Message,
    NamedTool,
    ResponseFormat,
    Sampling,
    Tool,
    ToolCall,
)
from triplane.domain.errors import InvalidRequest, UnsupportedParameter
from triplane.domain.events import FinishReason, TurnStatus, Usage
from triplane.domain.ids import is_id
from triplane.domain.limits import TokenLimit

Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
StopText = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class WireMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of the request. Clients send back what OpenAI answers: the last four fields."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class ChatCompletionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's body and fields of ours: `conversation_id` makes it a turn, `request_id` names it.

    `parent_id` and `expected_parent` say where in the conversation; null is its beginning. Only a turn may
    leave `model` out: its conversation's, or its user's, answers then.
    """

    messages: Annotated[list[WireMessage], msgspec.Meta(min_length=1, max_length=10_000)]
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    conversation_id: str | None = None
    request_id: RequestId | None = None
    background: bool | None = None
    parent_id: str | msgspec.UnsetType | None = msgspec.UNSET
    expected_parent: str | msgspec.UnsetType | None = msgspec.UNSET
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    stop: StopText | Annotated[list[StopText], msgspec.Meta(max_length=16)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Literal[1] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, msgspec.Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], msgspec.Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    user: Annotated[str, msgspec.Meta(max_length=512)] | None = None


def parse_messages(messages: list[WireMessage]) -> list[Message]:
    """The messages as an engine takes them. Raises InvalidRequest naming the one that is wrong."""
    return [_parse_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _parse_message(message: WireMessage, path: str) -> Message:
    if message.role in ("system", "developer", "user") and _is_empty(message.content):
        raise InvalidRequest(f"{path}.content is empty: write something.", param=f"{path}.content")
    if message.role == "assistant" and _is_empty(message.content) and not message.tool_calls:
        raise InvalidRequest(f"{path} has neither content nor tool_calls.", param=f"{path}.content")
    if message.role == "tool" and not message.tool_call_id:
        raise InvalidRequest(
            f"{path}.tool_call_id is missing: name the call that this answers.", param=f"{path}.tool_call_id"
        )
    if message.role != "assistant" and message.tool_calls:
        raise InvalidRequest(f"{path}.tool_calls: only an assistant calls tools.", param=f"{path}.tool_calls")
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=message.content,
        name=message.name,
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
    )


def _is_empty(content: Content | None) -> bool:
    return not content or (isinstance(content, str) and not content.strip())


def parse_sampling(body: ChatCompletionRequest) -> Sampling:
    """How tokens are chosen. Raises InvalidRequest where two fields contradict each other."""
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise InvalidRequest(
            "max_tokens and max_completion_tokens differ: send one of them.", param="max_completion_tokens"
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs: true.", param="top_logprobs")
    if body.logit_bias and not all(key.isdigit() for key in body.logit_bias):
        raise InvalidRequest("The keys of logit_bias are token ids, such as 50256.", param="logit_bias")
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or None,
        seed=body.seed,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=body.logit_bias,
        logprobs=body.logprobs,
        top_logprobs=body.top_logprobs,
    )


def require_consistent(body: ChatCompletionRequest) -> None:
    """Raises InvalidRequest where fields need each other."""
    if body.model is None and body.conversation_id is None:
        raise InvalidRequest("The field `model` is required.", param="model")
    names = [tool.function.name for tool in body.tools or []]
    if body.tool_choice not in (None, "none", "auto") and not names:
        raise InvalidRequest("tool_choice needs tools.", param="tool_choice")
    if isinstance(body.tool_choice, NamedTool) and body.tool_choice.function.name not in names:
        raise InvalidRequest(
            f"tool_choice names {body.tool_choice.function.name!r}, which isn't among tools.",
            param="tool_choice.function.name",
        )
    if body.parallel_tool_calls is not None and not names:
        raise InvalidRequest("parallel_tool_calls needs tools.", param="parallel_tool_calls")
    if body.background and not body.conversation_id:
        raise UnsupportedParameter(
            "background runs a turn of a conversation: send conversation_id too.", param="background"
        )
    if body.request_id and not body.conversation_id:
        raise UnsupportedParameter(
            "request_id dedupes the turns of a conversation: send conversation_id too.", param="request_id"
        )
    for name in ("parent_id", "expected_parent"):
        value = getattr(body, name)
        if value is not msgspec.UNSET and not body.conversation_id:
            raise InvalidRequest(f"{name} places a turn: send conversation_id too.", param=name)
        if value and not is_id("msg", value):
            raise InvalidRequest(f"{name}: this is not the id of a message.", param=name)


def completion_request(
    body: ChatCompletionRequest,
    messages: list[Message],
    *,
    request_id: str,
    cache_salt: str,
    flow: Flow | None = None,
    model: str | None = None,
) -> CompletionRequest:
    """What the gateway is asked; `model` is for a body that names none. Raises InvalidRequest."""
    chosen = body.model or model
    if chosen is None:
        raise InvalidRequest("The field `model` is required.", param="model")
    return CompletionRequest(
        request_id=request_id,
        model=chosen,
        messages=messages,
        sampling=parse_sampling(body),
        tools=body.tools or None,
        tool_choice=body.tool_choice,
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=body.response_format,
        user=body.user,
        cache_salt=cache_salt,
        flow=flow or Flow(),
    )


class FunctionDelta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class ToolCallChunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class ChunkDelta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallChunk] | None = None


class Logprobs(msgspec.Struct, frozen=True, kw_only=True):
    content: list[dict[str, Any]] | None
    refusal: None = None


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    delta: ChunkDelta
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: Logprobs | None = None


class CachedTokens(msgspec.Struct, frozen=True):
    cached_tokens: int


class WireUsage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


def present_usage(usage: Usage) -> WireUsage:
    return WireUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=CachedTokens(usage.cached_tokens),
    )


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One `chat.completion.chunk`. The first has `degraded` or `cached`, where they apply; the last fields
    come with turns only."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    usage: WireUsage | msgspec.UnsetType = msgspec.UNSET
    degraded: list[str] | msgspec.UnsetType = msgspec.UNSET
    cached: bool | msgspec.UnsetType = msgspec.UNSET
    conversation_id: str | msgspec.UnsetType = msgspec.UNSET
    turn_id: str | msgspec.UnsetType = msgspec.UNSET
    message_id: str | msgspec.UnsetType = msgspec.UNSET
    status: TurnStatus | msgspec.UnsetType = msgspec.UNSET


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    content: str | None
    tool_calls: list[ToolCall] | msgspec.UnsetType = msgspec.UNSET
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    message: AnswerMessage
    finish_reason: FinishReason
    index: int = 0
    logprobs: Logprobs | None = None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer, `chat.completion`. `degraded` names what was left out because of the load, `cached`
    says that it came from the response cache; the last fields come with turns only."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: WireUsage
    object: Literal["chat.completion"] = "chat.completion"
    degraded: list[str] | msgspec.UnsetType = msgspec.UNSET
    cached: bool | msgspec.UnsetType = msgspec.UNSET
    conversation_id: str | msgspec.UnsetType = msgspec.UNSET
    turn_id: str | msgspec.UnsetType = msgspec.UNSET
    message_id: str | msgspec.UnsetType = msgspec.UNSET
    status: TurnStatus | msgspec.UnsetType = msgspec.UNSET
