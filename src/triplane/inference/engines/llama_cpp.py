"""llama.cpp's server, and all of its ways:

- it ignores `tool_choice`: forced tools are made true by a JSON schema (`forced_tools`);
- a chat template without tools drops them silently: they go in as text then (`text_tools`);
- it closes the connection behind each stream without saying so: we say it first;
- headers come with the first event, so the prompt's progress is asked for: an engine that has begun
  to read a prompt has accepted it, and a cancelled prefill knows what it has cost;
- each piece carries the engine's own counts (`timings`), so that usage is exact when cancelled;
- its metrics (started with `--metrics`) ask for the key, and say no longer how full the KV cache is.

Its prefix cache can't be salted: tenants that must not share timing need an engine each.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

import msgspec

from triplane.domain.completion import (
    CompletionRequest,
    ImagePart,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    TextFormat,
    text_of,
)
from triplane.domain.errors import ContextTooLong, InvalidRequest, TriplaneError
from triplane.domain.events import Delta, EngineEvent, FinishReason, Usage
from triplane.inference.engines.engine import NO_HINTS, EngineLoad, EngineStream, Hints
from triplane.inference.engines.forced_tools import ForcedCall, call_schema, forced_tools
from triplane.inference.engines.http_engine import LOAD_S, HttpStream, NoSuchEndpoint, answer_as
from triplane.inference.engines.metrics_text import load_from
from triplane.inference.engines.openai_http import COMPLETIONS, OpenAIEngine
from triplane.inference.engines.openai_wire import Chunk, ChunkReader, WireLogprobs, refusal, request_body
from triplane.inference.engines.text_tools import (
    FORCED_CALL,
    FREE_CALL,
    TaggedCalls,
    with_tools_described,
    without_tool_roles,
)

_SEPARATOR = -1
_MARK = "\ue000{}\ue001"
_SEEDS = 2**32 - 1
_RUNNING = b"llamacpp:requests_processing"
_WAITING = b"llamacpp:requests_deferred"


class Timings(msgspec.Struct, gc=False):
    """What the engine has computed for this request so far."""

    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


class PromptProgress(msgspec.Struct, gc=False):
    cache: int = 0
    processed: int = 0


class LlamaChunk(Chunk, gc=False):
    timings: Timings | None = None
    prompt_progress: PromptProgress | None = None


class TemplateCaps(msgspec.Struct):
    supports_tools: bool = False
    supports_tool_calls: bool = False


class Props(msgspec.Struct):
    chat_template_caps: TemplateCaps = msgspec.field(default_factory=TemplateCaps)


class Rendered(msgspec.Struct):
    prompt: str


class Tokens(msgspec.Struct):
    tokens: list[int]


class CallsInText(Protocol):
    """Turns the answer's text into tool calls, or lets it through."""

    def push(self, text: str, events: list[EngineEvent]) -> None: ...

    def end(self, reason: FinishReason, events: list[EngineEvent]) -> FinishReason: ...


class LlamaReader(ChunkReader[LlamaChunk]):
    def __init__(self, model: str, calls: CallsInText | None) -> None:
        super().__init__(LlamaChunk, model)
        self._calls = calls
        self._timings: Timings | None = None
        self._progress: PromptProgress | None = None
        self._logprobs: list[dict[str, Any]] = []

    @property
    def usage(self) -> Usage:
        timings, progress = self._timings, self._progress
        if self._usage is None and timings is not None and timings.predicted_n:
            return Usage(
                prompt_tokens=timings.cache_n + timings.prompt_n,
                completion_tokens=timings.predicted_n,
                cached_tokens=timings.cache_n,
            )
        if self._usage is None and progress is not None:
            return Usage(prompt_tokens=progress.processed, cached_tokens=progress.cache)
        return super().usage

    def failure(self, fields: dict[str, Any]) -> TriplaneError:
        code = fields.get("code")
        return llama_refusal(code if isinstance(code, int) else 500, fields, None)

    def take(self, chunk: LlamaChunk, events: list[EngineEvent]) -> None:
        if chunk.timings is not None:
            self._timings = chunk.timings
        if chunk.prompt_progress is not None:
            self._progress = chunk.prompt_progress
        super().take(chunk, events)

    def take_text(self, text: str, logprobs: WireLogprobs | None, events: list[EngineEvent]) -> None:
        if self._calls is None:
            super().take_text(text, logprobs, events)
            return
        if logprobs and logprobs.content:
            self._logprobs += logprobs.content
        pieces: list[EngineEvent] = []
        self._calls.push(text, pieces)
        self._give_logprobs(pieces, events)

    def end(self, reason: FinishReason, events: list[EngineEvent]) -> None:
        if self._calls is not None:
            pieces: list[EngineEvent] = []
            reason = self._calls.end(reason, pieces)
            self._give_logprobs(pieces, events)
        super().end(reason, events)

    def _give_logprobs(self, pieces: list[EngineEvent], events: list[EngineEvent]) -> None:
        """Text that was held back takes its log probabilities along when it goes."""
        for piece in pieces:
            if isinstance(piece, Delta) and self._logprobs:
                events.append(Delta(text=piece.text, logprobs=self._logprobs))
                self._logprobs = []
            else:
                events.append(piece)


class LlamaStream(HttpStream):
    """An answer whose first event has been read: the engine may refuse in it, with the status of success."""

    _first: list[EngineEvent] | None = None

    async def begin(self) -> None:
        self._first = await super().read()

    async def read(self) -> list[EngineEvent] | None:
        first, self._first = self._first, None
        return first if first is not None else await super().read()


class LlamaCppEngine(OpenAIEngine):
    """A llama.cpp server at `base_url` (it ends in `/v1`)."""

    _caps: TemplateCaps | None = None

    async def start(
        self, request: CompletionRequest, headers: Mapping[str, str], hints: Hints = NO_HINTS
    ) -> EngineStream:
        body, calls = await self._llama_body(request)
        response = await self._open(COMPLETIONS, body, {**headers, "Connection": "close"})
        stream = LlamaStream(response, LlamaReader(self._engine_model, calls))
        async with AsyncExitStack() as unless_begun:
            unless_begun.push_async_callback(stream.aclose)
            await stream.begin()
            unless_begun.pop_all()
        return stream

    async def count_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Each message with the markers that lead in to it, in two calls however many there are.

        The template is rendered around marks in place of the contents, then cut at the marks. A prompt
        needs these tokens, and a few more that lead in to the answer.
        """
        if not messages:
            return []
        plain = await self._plain(messages)
        leads = await self._leads(plain)
        texts = [lead + text_of(message.content) for lead, message in zip(leads, plain, strict=True)]
        content: list[str | int] = [texts[0]]
        for text in texts[1:]:
            content += (_SEPARATOR, text)
        body = {"content": content, "add_special": False, "parse_special": True}
        answer = await self._call("POST", f"{self._root}/tokenize", body)
        return _lengths(answer_as(Tokens, answer).tokens)

    async def load(self) -> EngineLoad | None:
        try:
            text = await self._call("GET", f"{self._root}/metrics", within_s=LOAD_S)
        except NoSuchEndpoint:
            return None
        return load_from(text, running=_RUNNING, waiting=_WAITING)

    async def _leads(self, messages: Sequence[Message]) -> list[str]:
        """The template's text in front of each message's content."""
        own_system = messages[0].role in ("system", "developer")
        marked = [
            Message(role=message.role, content=_MARK.format(index)) for index, message in enumerate(messages)
        ]
        if not own_system:
            marked.insert(0, Message(role="system", content=_MARK.format("s")))
        answer = await self._call("POST", f"{self._root}/apply-template", {"messages": marked})
        rest = answer_as(Rendered, answer).prompt
        if not own_system:
            rest = rest.partition(_MARK.format("s"))[2]
        leads = []
        for index in range(len(messages)):
            before, found, behind = rest.partition(_MARK.format(index))
            leads.append(before if found else "")
            rest = behind if found else rest
        return leads

    async def _llama_body(self, request: CompletionRequest) -> tuple[dict[str, Any], CallsInText | None]:
        forced = forced_tools(request.tools, request.tool_choice)
        body = request_body(request, self._engine_model)
        messages = await self._plain(request.messages)
        calls: CallsInText | None = None
        if forced:
            if not isinstance(request.response_format, TextFormat | None):
                raise InvalidRequest(
                    "This engine can't force a tool and a response format at once.", param="response_format"
                )
            messages = with_tools_described(messages, forced, FORCED_CALL)
            body["response_format"] = JsonSchemaFormat(JsonSchema(name="call", schema=call_schema(forced)))
            calls = ForcedCall()
        elif "tools" in body and not (await self._template_caps()).supports_tools:
            functions = [tool.function for tool in request.tools or ()]
            messages = with_tools_described(messages, functions, FREE_CALL)
            at_most = 1 if request.parallel_tool_calls is False else None
            calls = TaggedCalls(frozenset(function.name for function in functions), at_most)
        if calls is not None:
            for name in ("tools", "tool_choice", "parallel_tool_calls"):
                body.pop(name, None)
        body |= {
            "messages": messages,
            "cache_prompt": True,
            "timings_per_token": True,
            "return_progress": True,
        }
        if request.sampling.seed is not None:
            body["seed"] = request.sampling.seed % _SEEDS
        if request.continue_final_message:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body, calls

    async def _plain(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as the template can show them, contents of text as one string."""
        with_tools = any(message.tool_calls or message.role == "tool" for message in messages)
        as_text = with_tools and not (await self._template_caps()).supports_tool_calls
        return [_flat(without_tool_roles(message) if as_text else message) for message in messages]

    async def _template_caps(self) -> TemplateCaps:
        if self._caps is None:
            answer = await self._call("GET", f"{self._root}/props")
            self._caps = answer_as(Props, answer).chat_template_caps
        return self._caps

    def _refusal(self, status: int, fields: dict[str, Any], retry_after_s: float | None) -> TriplaneError:
        return llama_refusal(status, fields, retry_after_s)


def llama_refusal(status: int, fields: dict[str, Any], retry_after_s: float | None) -> TriplaneError:
    """llama.cpp's errors: most say `type`, and a wrong request may come as a server error."""
    message = fields["message"]
    if fields.get("type") == "exceed_context_size_error":
        return ContextTooLong(
            f"The prompt has {fields.get('n_prompt_tokens')} tokens, but the model's context holds "
            f"{fields.get('n_ctx')}, answer included. Send less.",
            param="messages",
        )
    if "too large to process" in message:
        return ContextTooLong("A text is longer than the engine can embed at once. Send less.", param="input")
    if message.startswith("image input is not supported"):
        return InvalidRequest("This model can't read images.", param="messages")
    if "JSON schema" in message or "json_schema" in message:
        return InvalidRequest(f"A schema can't be used: {message}", param="response_format")
    return refusal(status, fields, retry_after_s)


def _flat(message: Message) -> Message:
    """A content of text parts as one string; the engine would put line breaks between them."""
    if not isinstance(message.content, list) or any(isinstance(p, ImagePart) for p in message.content):
        return message
    return msgspec.structs.replace(message, content=text_of(message.content))


def _lengths(tokens: list[int]) -> list[int]:
    """How many tokens lie between the separators."""
    lengths = [0]
    for token in tokens:
        if token == _SEPARATOR:
            lengths.append(0)
        else:
            lengths[-1] += 1
    return lengths
