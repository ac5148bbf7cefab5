"""Embeddings of the simulated engine: each input is read as a prompt is, its vector follows from its tokens.

A vector has the length 1 and is the sum of a direction for each token, so texts that share words are near
each other, and the same text always has the same vector.
"""

import base64
import math
from collections.abc import Callable
from random import Random

import msgspec

from triplane.domain.embeddings import Vector, numbers_of, vector_of
from triplane.domain.ids import new_id
from triplane.inference.simulated_engine import wire
from triplane.inference.simulated_engine.answering import RequestRecord
from triplane.inference.simulated_engine.connection import Exchange
from triplane.inference.simulated_engine.sequence import Sequence
from triplane.inference.simulated_engine.tokens import tokenize
from triplane.inference.simulated_engine.wire import Rejected

DIMENSIONS = 64


class EmbeddingsRequest(msgspec.Struct):
    """What of a request is understood; other fields are ignored, as vLLM does."""

    input: str | list[str | int | list[int]]
    model: str = ""
    dimensions: int | None = None
    encoding_format: str = "float"


def read_inputs(body: bytes, model_id: str, max_model_len: int) -> tuple[list[list[str]], EmbeddingsRequest]:
    """The tokens of each input. Raises Rejected."""
    try:
        request = msgspec.json.decode(body, type=EmbeddingsRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(400, f"The request can't be read: {error}") from None
    if request.model and request.model != model_id:
        raise Rejected(404, f"The model `{request.model}` does not exist.", "model")
    if request.dimensions is not None and not 1 <= request.dimensions <= DIMENSIONS:
        raise Rejected(400, f"dimensions has to be 1 to {DIMENSIONS}.", "dimensions")
    prompts = [_tokens(each) for each in _inputs(request.input)]
    if not prompts or not all(prompts):
        raise Rejected(400, "An input is empty.", "input")
    if (longest := max(map(len, prompts))) > max_model_len:
        raise Rejected(
            400, f"This model's maximum context length is {max_model_len} tokens; an input has {longest}."
        )
    return prompts, request


class Embedding:
    """One request: answered when each of its inputs is read."""

    def __init__(
        self,
        exchange: Exchange,
        request: EmbeddingsRequest,
        model: str,
        give_up: "Callable[[Reading], None]",
    ) -> None:
        self.exchange = exchange
        self.request_id = exchange.headers.get("x-request-id") or new_id("req")
        self.give_up = give_up
        self._request = request
        self._model = model
        self._readings: list[Reading] = []
        exchange.on_lost = self._lost

    def add(self, sequence: Sequence) -> "Reading":
        reading = Reading(self, sequence)
        self._readings.append(reading)
        return reading

    def progress(self) -> None:
        """One more input is read."""
        if any(each.ended != "finished" for each in self._readings):
            return
        data = [
            {"object": "embedding", "index": index, "embedding": self._shown(each.sequence)}
            for index, each in enumerate(self._readings)
        ]
        prompt = sum(len(each.sequence.prompt) for each in self._readings)
        cached = sum(each.sequence.cached_tokens for each in self._readings)
        usage = wire.wire_usage(prompt, 0, cached)
        self.exchange.reply_json({"object": "list", "data": data, "model": self._model, "usage": usage})

    def fail(self, message: str) -> None:
        for each in self._readings:
            each.ended = each.ended or "failed"
        self.exchange.reply(500, wire.error_body(500, message))

    def _shown(self, sequence: Sequence) -> str | list[float]:
        vector = vector_of_tokens(sequence.prompt, self._request.dimensions or DIMENSIONS)
        in_base64 = self._request.encoding_format == "base64"
        return base64.b64encode(vector).decode() if in_base64 else numbers_of(vector)

    def _lost(self) -> None:
        for each in self._readings:
            if not each.ended:
                each.ended = "aborted"
                self.give_up(each)


class Reading:
    """One input on its way through the scheduler."""

    reason = "stop"
    delivered = 0

    def __init__(self, embedding: Embedding, sequence: Sequence) -> None:
        self.sequence = sequence
        self.ended = ""
        self._embedding = embedding

    @property
    def record(self) -> RequestRecord:
        return RequestRecord(
            request_id=self._embedding.request_id,
            ended=self.ended,
            prompt_tokens=len(self.sequence.prompt),
            cached_tokens=self.sequence.cached_tokens,
            transferred_tokens=0,
            computed_tokens=self.sequence.prompt_computed,
            generated_tokens=0,
            delivered_tokens=0,
        )

    def progress(self) -> None:
        """Its prompt is read."""
        if not self.ended:
            self.ended = "finished"
            self._embedding.progress()

    def fail(self, message: str) -> None:
        """The engine stops."""
        if not self.ended:
            self._embedding.fail(message)


def vector_of_tokens(tokens: list[str], dimensions: int) -> Vector:
    numbers = [0.0] * dimensions
    for token in tokens:
        direction = Random(token.strip().lower())
        for place in range(dimensions):
            numbers[place] += direction.gauss(0.0, 1.0)
    length = math.hypot(*numbers) or 1.0
    return vector_of([number / length for number in numbers])


def _inputs(sent: str | list[str | int | list[int]]) -> list[str | list[int]]:
    if isinstance(sent, str):
        return [sent]
    if sent and all(isinstance(each, int) for each in sent):
        return [[each for each in sent if isinstance(each, int)]]
    if any(isinstance(each, int) for each in sent):
        raise Rejected(400, "Token ids and texts can't be mixed.", "input")
    return [each for each in sent if not isinstance(each, int)]


def _tokens(sent: str | list[int]) -> list[str]:
    return tokenize(sent) if isinstance(sent, str) else [str(each) for each in sent]
