"""Any engine behind an OpenAI-compatible HTTP endpoint: TensorRT-LLM, a vendor, OpenAI, ourselves.

OpenAI's own ways:
- its newer models refuse `max_tokens` and want `max_completion_tokens`: learned from the first refusal;
- requests with the same `prompt_cache_key` go to machines that have the prefix (`prompt_cache_key=True`
  sends one, a hash that names nobody); other servers of this wire may refuse the field, so it is off;
- it has no tokenizer: tokens are counted by an upper bound.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from triplane.domain.completion import CompletionRequest, Message, ModelCard
from triplane.domain.embeddings import Embedded, EmbeddingRequest
from triplane.domain.errors import ContextTooLong, InvalidRequest, TriplaneError
from triplane.inference.engines.embeddings_wire import (
    EMBED_S,
    EMBEDDINGS,
    embedded_of,
    embeddings_body,
    no_embeddings,
    of_inputs,
)
from triplane.inference.engines.engine import NO_HINTS, EngineStream, Hints
from triplane.inference.engines.http_engine import CONNECT_S, HttpEngine, HttpStream, NoSuchEndpoint
from triplane.inference.engines.opaque_names import opaque_name
from triplane.inference.engines.openai_wire import Chunk, ChunkReader, refusal, request_body
from triplane.inference.engines.token_bounds import token_bound

COMPLETIONS = "/chat/completions"


class OpenAIEngine(HttpEngine):
    """An engine at `base_url` (it ends in `/v1`). `engine_model` is its name for the model, if another.

    Give it to one event loop and `close` it there.
    """

    def __init__(
        self,
        base_url: str,
        card: ModelCard,
        *,
        name: str = "openai",
        api_key: str | None = None,
        engine_model: str | None = None,
        connect_s: float = CONNECT_S,
        prompt_cache_key: bool = False,
    ) -> None:
        super().__init__(
            base_url, card, name=name, api_key=api_key, engine_model=engine_model, connect_s=connect_s
        )
        self._prompt_cache_key = prompt_cache_key
        self._limit_name = "max_tokens"

    async def start(
        self, request: CompletionRequest, headers: Mapping[str, str], hints: Hints = NO_HINTS
    ) -> EngineStream:
        try:
            response = await self._open(COMPLETIONS, self._body(request, hints), headers)
        except InvalidRequest as refused:
            if not self._learn(refused):
                raise
            response = await self._open(COMPLETIONS, self._body(request, hints), headers)
        return HttpStream(response, ChunkReader(Chunk, self._engine_model, request.tool_choice))

    async def embed(self, request: EmbeddingRequest, headers: Mapping[str, str]) -> Embedded:
        url, body = f"{self._base_url}{EMBEDDINGS}", embeddings_body(request, self._engine_model)
        try:
            raw = await self._call("POST", url, body, headers=headers, within_s=EMBED_S)
        except NoSuchEndpoint as missing:
            raise no_embeddings() from missing
        except ContextTooLong as refused:
            raise of_inputs(refused) from refused
        return embedded_of(raw, request, self._engine_model)

    async def count_tokens(self, messages: Sequence[Message]) -> list[int]:
        return [token_bound(message) for message in messages]

    def _body(self, request: CompletionRequest, hints: Hints) -> dict[str, Any]:
        """What is sent. Raises InvalidRequest for what this engine can't do."""
        if request.continue_final_message:
            raise InvalidRequest("This engine can't continue an unfinished answer.", param="messages")
        body = request_body(request, self._engine_model)
        if "max_tokens" in body:
            body[self._limit_name] = body.pop("max_tokens")
        if self._prompt_cache_key and request.flow.affinity:
            body["prompt_cache_key"] = opaque_name(request.flow.tenant, request.flow.affinity)
        return body

    def _learn(self, refused: InvalidRequest) -> bool:
        """Whether this refusal teaches how to ask: then the body is made anew, for good."""
        if "max_completion_tokens" in refused.message:
            self._limit_name = "max_completion_tokens"
            return True
        return False

    def _refusal(self, status: int, fields: dict[str, Any], retry_after_s: float | None) -> TriplaneError:
        return refusal(status, fields, retry_after_s)
