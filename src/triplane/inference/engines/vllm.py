"""vLLM's OpenAI-compatible server (docs.vllm.ai), and its ways:

- `continue_final_message` needs `add_generation_prompt: false` beside it; the stream carries only what is
  new. Chat templates that trim a message lose whitespace at the end of what is continued;
- `cache_salt` keeps prefix caches apart, and may not be empty;
- `continuous_usage_stats` has usage come with every chunk, the prompt's from the first token on;
- `priority` (a lower number first) is refused unless the server runs `--scheduling-policy priority`: it is
  left out for good then;
- `request_id` has to be unique among what runs: it is minted, with ours behind it for the logs;
- a named tool's arguments came as a JSON string that holds the object: `tool_arguments` undoes that;
- `/metrics` needs no key; names changed: `gpu_cache_usage_perc` before `kv_cache_usage_perc`. With data
  parallelism each engine has samples of its own;
- `/tokenize` is beside `/v1`, and takes one text at a time. A proxy or a hardened server may not have it;
- prefill and decode apart: a prompt is read with `do_remote_decode` and one token; what that answers as
  `kv_transfer_params` tells the decoding server where the cache lies.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import msgspec

from triplane.domain.completion import CompletionRequest, Message, ModelCard
from triplane.domain.errors import EngineFailed, InvalidRequest
from triplane.domain.events import Usage
from triplane.domain.ids import new_id
from triplane.inference.engines.engine import NO_HINTS, EngineLoad, Hints, KvTransfer
from triplane.inference.engines.http_engine import LOAD_S, EngineOptions, NoSuchEndpoint, answer_as
from triplane.inference.engines.metrics_text import load_from
from triplane.inference.engines.openai_http import COMPLETIONS, OpenAIEngine
from triplane.inference.engines.openai_wire import USAGE_WITH_EVERY_CHUNK, WireUsage, request_body
from triplane.inference.engines.token_bounds import MARKER_TOKENS, counted_text, image_tokens, token_bound
from triplane.inference.engines.token_counts import TokenCounts

PREFILL_S = 600.0
_RUNNING = b"vllm:num_requests_running"
_WAITING = b"vllm:num_requests_waiting"
_KV_USAGE = (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc")
_FOR_ANOTHER_TO_DECODE: KvTransfer = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


class Counted(msgspec.Struct):
    count: int


class Prefilled(msgspec.Struct):
    kv_transfer_params: KvTransfer | None = None
    usage: WireUsage = msgspec.field(default_factory=WireUsage)


class VllmEngine(OpenAIEngine):
    """A vLLM server at `base_url` (it ends in `/v1`)."""

    def __init__(self, base_url: str, card: ModelCard, **options: Unpack[EngineOptions]) -> None:
        super().__init__(base_url, card, **options)
        self._takes_priority = True
        self._marker_tokens: int | None = None
        self._counts = TokenCounts()

    async def prefill(
        self, request: CompletionRequest, headers: Mapping[str, str], hints: Hints = NO_HINTS
    ) -> tuple[KvTransfer, Usage]:
        try:
            answer = await self._prefilled(request, headers, hints)
        except InvalidRequest as refused:
            if not self._learn(refused):
                raise
            answer = await self._prefilled(request, headers, hints)
        if answer.kv_transfer_params is None:
            raise EngineFailed("The engine read the prompt but says nothing of where its KV cache lies.")
        return answer.kv_transfer_params, answer.usage.as_usage()

    async def count_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Each text by the engine's tokenizer, and what its template puts around a message."""
        try:
            markers = await self._markers() if messages else 0
            counts = [await self._counts.of(counted_text(m), self._text_tokens) for m in messages]
        except NoSuchEndpoint:
            return [token_bound(message) for message in messages]
        return [
            count + markers + image_tokens(message) for count, message in zip(counts, messages, strict=True)
        ]

    async def load(self) -> EngineLoad | None:
        try:
            text = await self._call("GET", f"{self._root}/metrics", within_s=LOAD_S)
        except NoSuchEndpoint:
            return None
        return load_from(text, running=_RUNNING, waiting=_WAITING, kv_usage=_KV_USAGE)

    def _body(self, request: CompletionRequest, hints: Hints) -> dict[str, Any]:
        body = request_body(request, self._engine_model)
        body["stream_options"] = USAGE_WITH_EVERY_CHUNK
        body["request_id"] = f"{new_id('call')}-{request.request_id}"
        if request.continue_final_message:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if request.cache_salt:
            body["cache_salt"] = request.cache_salt
        if hints.priority is not None and self._takes_priority:
            body["priority"] = hints.priority
        if hints.kv_transfer is not None:
            body["kv_transfer_params"] = hints.kv_transfer
        return body

    def _learn(self, refused: InvalidRequest) -> bool:
        message = refused.message.lower()
        if "priorit" in message and "schedul" in message:
            self._takes_priority = False
            return True
        return super()._learn(refused)

    async def _prefilled(
        self, request: CompletionRequest, headers: Mapping[str, str], hints: Hints
    ) -> Prefilled:
        body = self._body(request, hints)
        del body["stream_options"]
        body |= {"stream": False, "max_tokens": 1, "kv_transfer_params": _FOR_ANOTHER_TO_DECODE}
        url = f"{self._base_url}{COMPLETIONS}"
        return answer_as(Prefilled, await self._call("POST", url, body, headers=headers, within_s=PREFILL_S))

    async def _markers(self) -> int:
        """What the template puts around one message more; a template that refuses to say costs the bound."""
        if self._marker_tokens is None:
            user, assistant = Message(role="user", content="x"), Message(role="assistant", content="x")
            text = await self._text_tokens("x")
            try:
                one = await self._chat_tokens([user])
                three = await self._chat_tokens([user, assistant, user])
            except InvalidRequest:
                self._marker_tokens = MARKER_TOKENS
            else:
                self._marker_tokens = max(0, math.ceil((three - one) / 2) - text)
        return self._marker_tokens

    async def _text_tokens(self, text: str) -> int:
        return await self._tokens({"prompt": text})

    async def _chat_tokens(self, messages: Sequence[Message]) -> int:
        return await self._tokens({"messages": messages, "add_generation_prompt": False})

    async def _tokens(self, what: dict[str, Any]) -> int:
        body = {"model": self._engine_model, "add_special_tokens": False, **what}
        return answer_as(Counted, await self._call("POST", f"{self._root}/tokenize", body)).count
