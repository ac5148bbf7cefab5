"""SGLang's OpenAI-compatible server (docs.sglang.ai), and its ways:

- `continue_final_message` alone continues (it always adds its generation prompt, then our text, which has
  to be one string); the stream carries only what is new;
- `rid` names the request, and `/abort_request` takes it for a prefix: ours begins with a fresh id, so that
  none is the beginning of another;
- `cache_salt` keeps prefix caches apart;
- `continuous_usage_stats` is vLLM's; a version that doesn't know it ignores it;
- `priority` isn't sent: whether higher or lower numbers come first is set on the server;
- `/metrics` are there with `--enable-metrics`. With priorities it counts each one again beside the total,
  with all schedulers each rank of one replica: only totals of rank 0 are added up;
- `/tokenize` takes many texts at once but knows no chat template: what goes around a message is a bound.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from triplane.domain.completion import CompletionRequest, Message, text_of
from triplane.domain.errors import EngineFailed
from triplane.domain.ids import new_id
from triplane.inference.engines.engine import EngineLoad, Hints
from triplane.inference.engines.http_engine import LOAD_S, NoSuchEndpoint, answer_as
from triplane.inference.engines.metrics_text import load_from
from triplane.inference.engines.openai_http import OpenAIEngine
from triplane.inference.engines.openai_wire import USAGE_WITH_EVERY_CHUNK, request_body
from triplane.inference.engines.token_bounds import MARKER_TOKENS, counted_text, image_tokens, token_bound

_RUNNING = b"sglang:num_running_reqs"
_WAITING = b"sglang:num_queue_reqs"
_KV_USAGE = (b"sglang:token_usage",)


class Counted(msgspec.Struct):
    count: list[int]


class SglangEngine(OpenAIEngine):
    """An SGLang server at `base_url` (it ends in `/v1`)."""

    async def count_tokens(self, messages: Sequence[Message]) -> list[int]:
        body = {
            "model": self._engine_model,
            "prompt": [counted_text(message) for message in messages],
            "add_special_tokens": False,
        }
        try:
            answer = await self._call("POST", f"{self._root}/tokenize", body) if messages else b'{"count":[]}'
        except NoSuchEndpoint:
            return [token_bound(message) for message in messages]
        counts = answer_as(Counted, answer).count
        if len(counts) != len(messages):
            raise EngineFailed("The engine counted another number of texts than it was asked.")
        return [
            count + MARKER_TOKENS + image_tokens(message)
            for count, message in zip(counts, messages, strict=True)
        ]

    async def load(self) -> EngineLoad | None:
        try:
            text = await self._call("GET", f"{self._root}/metrics", within_s=LOAD_S)
        except NoSuchEndpoint:
            return None
        return load_from(text, running=_RUNNING, waiting=_WAITING, kv_usage=_KV_USAGE, chooses=_is_total)

    def _body(self, request: CompletionRequest, hints: Hints) -> dict[str, Any]:
        body = request_body(request, self._engine_model)
        body["stream_options"] = USAGE_WITH_EVERY_CHUNK
        body["rid"] = f"{new_id('call')}-{request.request_id}"
        if request.continue_final_message:
            *before, last = request.messages
            whole = msgspec.structs.replace(last, content=text_of(last.content))
            body |= {"messages": [*before, whole], "continue_final_message": True}
        if request.cache_salt:
            body["cache_salt"] = request.cache_salt
        return body


def _is_total(labels: bytes) -> bool:
    """Whether a sample counts all priorities, on the first rank of a replica."""
    of_a_priority = b'priority="' in labels and b'priority=""' not in labels
    return not of_a_priority and (b'tp_rank="' not in labels or b'tp_rank="0"' in labels)
