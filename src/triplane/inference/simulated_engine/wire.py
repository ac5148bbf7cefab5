"""vLLM's chat completions on the wire: the request, the stream's chunks, the whole answer, the errors."""

from typing import Annotated, Any, Literal

import msgspec

from triplane.inference.simulated_engine.tokens import WireMessage

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
AtLeastZero = Annotated[int, msgspec.Meta(ge=0)]


class StreamOptions(msgspec.Struct):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class NamedFunction(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct):
    function: NamedFunction


class JsonSchema(msgspec.Struct):
    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class KvTransferParams(msgspec.Struct, kw_only=True, omit_defaults=False):
    """vLLM's handshake for prefill/decode disaggregation, as its NIXL connector has it.

    A prefill engine is asked with `do_remote_decode`; what it answers, `do_remote_prefill` with the place of
    the blocks, is given to a decode engine as it is.
    """

    do_remote_decode: bool = False
    do_remote_prefill: bool = False
    remote_block_ids: list[int] | None = None
    remote_engine_id: str | None = None
    remote_request_id: str | None = None
    remote_host: str | None = None
    remote_port: int | None = None
    tp_size: int | None = None


class ChatRequest(msgspec.Struct):
    """What of a request is understood; other fields are ignored, as vLLM does."""

    messages: list[WireMessage]
    model: str = ""
    max_tokens: AtLeastOne | None = None
    max_completion_tokens: AtLeastOne | None = None
    min_tokens: AtLeastZero = 0
    ignore_eos: bool = False
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: Literal["none", "auto", "required"] | Tool | None = None
    response_format: ResponseFormat | None = None
    priority: int = 0
    cache_salt: str | None = None
    request_id: str | None = None
    continue_final_message: bool = False
    add_generation_prompt: bool = True
    kv_transfer_params: KvTransferParams | None = None


class TokenizeRequest(msgspec.Struct):
    """vLLM's `POST /tokenize`: a chat or a text."""

    messages: list[WireMessage] | None = None
    prompt: str | None = None
    add_generation_prompt: bool = True


class TransferRequest(msgspec.Struct):
    """A decode engine fetches the blocks that a prefill engine holds for this request."""

    engine_id: str
    request_id: str


class PromptDetails(msgspec.Struct):
    cached_tokens: int


class WireUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: PromptDetails


def wire_usage(prompt: int, completion: int, cached: int) -> WireUsage:
    return WireUsage(prompt, prompt + completion, completion, PromptDetails(cached))


class ErrorInfo(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: int


class ErrorAnswer(msgspec.Struct):
    error: ErrorInfo


class Rejected(Exception):
    """The request is answered with an error of this status."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param


_ERROR_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    413: "PayloadTooLargeError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
}


def error_body(status: int, message: str, param: str | None = None) -> bytes:
    kind = _ERROR_TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return msgspec.json.encode(ErrorAnswer(ErrorInfo(message, kind, param, status)))


DONE = b"data: [DONE]\n\n"
GARBAGE = b'data: {"choices":[{"delta":{"content":\xff\xfe\n\n'

_encode = msgspec.json.encode


class ChunkWriter:
    """The chunks of one stream. All that stays the same is encoded once, for each token is on a hot path."""

    def __init__(self, answer_id: str, model: str, created: int, tool: tuple[str, str] | None) -> None:
        """`tool`: the call's id and the function's name, if the answer is a call's arguments."""
        self._tool = tool
        base = {"id": answer_id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._base = b"data: " + _encode(base)[:-1]
        self._head = self._base + b',"choices":[{"index":0,"delta":'
        if tool is None:
            self._before, self._behind = b'{"content":', b"}"
        else:
            self._before, self._behind = b'{"tool_calls":[{"index":0,"function":{"arguments":', b"}}]}"

    def first(self) -> bytes:
        """The role, and for a tool call its name."""
        events = self._head + b'{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
        if self._tool is not None:
            call_id, name = self._tool
            call = {
                "index": 0,
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": ""},
            }
            delta = _encode({"tool_calls": [call]})
            events += self._head + delta + b',"logprobs":null,"finish_reason":null}]}\n\n'
        return events

    def token(
        self,
        text: str,
        reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
        usage: WireUsage | None = None,
    ) -> bytes:
        ending = b"null" if reason is None else b'"%b"' % reason.encode()
        chosen = b"null" if logprobs is None else _encode({"content": [logprobs]})
        tail = b',"logprobs":' + chosen + b',"finish_reason":' + ending + b"}]"
        if usage is not None:
            tail += b',"usage":' + _encode(usage)
        return self._head + self._before + _encode(text) + self._behind + tail + b"}\n\n"

    def usage(self, usage: WireUsage) -> bytes:
        return self._base + b',"choices":[],"usage":' + _encode(usage) + b"}\n\n"


def error_event(status: int, message: str) -> bytes:
    return b"data: " + error_body(status, message) + b"\n\n"


def whole_answer(
    answer_id: str,
    model: str,
    created: int,
    text: str,
    reason: str,
    usage: WireUsage,
    *,
    tool: tuple[str, str] | None,
    logprobs: list[dict[str, Any]] | None,
    transfer: KvTransferParams | None,
) -> bytes:
    """The answer that isn't streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "tool_calls": []}
    if tool is not None:
        call = {"id": tool[0], "type": "function", "function": {"name": tool[1], "arguments": text}}
        message |= {"content": None, "tool_calls": [call]}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None if logprobs is None else {"content": logprobs},
        "finish_reason": reason,
    }
    return _encode(
        {
            "id": answer_id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice],
            "usage": usage,
            "kv_transfer_params": transfer,
        }
    )
