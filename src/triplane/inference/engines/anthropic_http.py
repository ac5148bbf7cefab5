"""Anthropic's Messages API (docs.anthropic.com/en/api/messages), or a server that speaks it.

What its requests ask for is in `anthropic_request`, its streams in `anthropic_reader`. Further ways of it:

- the key goes in `x-api-key`, and each request says which version of the API it means;
- it is busy with status 429 (our limit, with `retry-after`) or 529 (its load, mostly without);
- a prefix is cached only where the request marks its end, and only from about a thousand tokens on. Writing
  the cache costs a quarter more than input, reading it a tenth. `usage` counts both beside the input; ours
  counts them in the prompt, and what was read as cached;
- newer models can't go on from a prefill: say so in the model's card (`supports_continuation`);
- tokens are counted by a call to the vendor: short texts are bounded instead, long ones remembered.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from triplane.domain.anthropic.wire import InputMessage
from triplane.domain.completion import CompletionRequest, Message, ModelCard
from triplane.domain.errors import InvalidRequest, Overloaded, TriplaneError
from triplane.inference.engines.anthropic_reader import MessagesReader, messages_refusal
from triplane.inference.engines.anthropic_request import messages_prompt
from triplane.inference.engines.engine import NO_HINTS, EngineStream, Hints
from triplane.inference.engines.http_engine import (
    CONNECT_S,
    HttpEngine,
    HttpStream,
    NoSuchEndpoint,
    answer_as,
)
from triplane.inference.engines.token_bounds import MARKER_TOKENS, counted_text, image_tokens, token_bound
from triplane.inference.engines.token_counts import TokenCounts

VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4096
COUNTED_FROM_BYTES = 256


class Counted(msgspec.Struct):
    input_tokens: int


class AnthropicEngine(HttpEngine):
    """An engine at `base_url` (it ends in `/v1`).

    `default_max_tokens` bounds an answer for which nobody has said a bound; `mark_prefix` has the stable
    beginning of each prompt cached.
    """

    def __init__(
        self,
        base_url: str,
        card: ModelCard,
        *,
        name: str = "anthropic",
        api_key: str | None = None,
        engine_model: str | None = None,
        connect_s: float = CONNECT_S,
        default_max_tokens: int = DEFAULT_MAX_TOKENS,
        mark_prefix: bool = True,
    ) -> None:
        super().__init__(
            base_url, card, name=name, api_key=api_key, engine_model=engine_model, connect_s=connect_s
        )
        self._default_max_tokens = default_max_tokens
        self._mark_prefix = mark_prefix
        self._counts = TokenCounts()

    async def start(
        self, request: CompletionRequest, headers: Mapping[str, str], hints: Hints = NO_HINTS
    ) -> EngineStream:
        if request.continue_final_message and not self._card.supports_continuation:
            raise InvalidRequest("This model can't continue an unfinished answer.", param="messages")
        prompt = messages_prompt(
            request, self._engine_model, self._default_max_tokens, mark_prefix=self._mark_prefix
        )
        response = await self._open("/messages", prompt.body, headers)
        return HttpStream(response, MessagesReader(self._engine_model, prompt.cut_off))

    async def count_tokens(self, messages: Sequence[Message]) -> list[int]:
        return [await self._count(message) for message in messages]

    async def _count(self, message: Message) -> int:
        """By the vendor's own count; its limit on counting costs exactness, not the turn."""
        text = counted_text(message)
        if len(text.encode()) < COUNTED_FROM_BYTES:
            return token_bound(message)
        try:
            return await self._counts.of(text, self._ask_count) + MARKER_TOKENS + image_tokens(message)
        except (NoSuchEndpoint, Overloaded):
            return token_bound(message)

    async def _ask_count(self, text: str) -> int:
        body = {"model": self._engine_model, "messages": [InputMessage(role="user", content=text)]}
        answer = await self._call("POST", f"{self._base_url}/messages/count_tokens", body)
        return answer_as(Counted, answer).input_tokens

    def _authentication(self, api_key: str | None) -> dict[str, str]:
        return {"anthropic-version": VERSION, **({"x-api-key": api_key} if api_key else {})}

    def _refusal(self, status: int, fields: dict[str, Any], retry_after_s: float | None) -> TriplaneError:
        return messages_refusal(status, fields, retry_after_s)
