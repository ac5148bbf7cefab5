"""OpenAI's embeddings as an engine speaks them. vLLM, SGLang and llama.cpp's server have the same wire.

Vectors are asked for in base64, which is a fraction of the work; a server that doesn't know it sends numbers.
"""

import binascii
import math
from typing import Any

import msgspec

from triplane.domain.embeddings import Embedded, EmbeddingRequest, Vector, numbers_of, vector_of
from triplane.domain.errors import ContextTooLong, EngineFailed, InvalidRequest
from triplane.inference.engines.http_engine import answer_as
from triplane.inference.engines.openai_wire import WireUsage

EMBEDDINGS = "/embeddings"
EMBED_S = 3600.0
"""A bound for what waits for nobody: the route's timeouts end a call sooner."""


class WireEmbedding(msgspec.Struct):
    index: int
    embedding: str | list[float]


class EmbeddingsAnswer(msgspec.Struct):
    data: list[WireEmbedding]
    model: str = ""
    usage: WireUsage | None = None


def embeddings_body(request: EmbeddingRequest, model: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "input": request.inputs, "encoding_format": "base64"}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.user is not None:
        body["user"] = request.user
    return body


def embedded_of(raw: bytes, request: EmbeddingRequest, model: str) -> Embedded:
    """Raises EngineFailed: it isn't one vector for each input, all of one length."""
    answer = answer_as(EmbeddingsAnswer, raw)
    answer.data.sort(key=lambda each: each.index)
    if [each.index for each in answer.data] != list(range(len(request.inputs))):
        raise EngineFailed("The engine gave other embeddings than it was asked for.")
    vectors = [_vector(each.embedding) for each in answer.data]
    if len({len(vector) for vector in vectors}) != 1:
        raise EngineFailed("The engine gave embeddings of several lengths.")
    return Embedded(
        vectors=vectors, usage=(answer.usage or WireUsage()).as_usage(), model=answer.model or model
    )


def no_embeddings() -> InvalidRequest:
    return InvalidRequest("The engine of this model doesn't give embeddings.", param="model")


def of_inputs(error: ContextTooLong) -> ContextTooLong:
    """The refusal of a text that is too long, with the field that it stands in here."""
    return ContextTooLong(error.message, param="input")


def _vector(sent: str | list[float]) -> Vector:
    try:
        vector = binascii.a2b_base64(sent) if isinstance(sent, str) else vector_of(sent)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise EngineFailed("The engine's answer isn't an embedding.") from error
    if not vector or len(vector) % 4 or not math.isfinite(sum(numbers_of(vector))):
        raise EngineFailed("The engine's answer isn't an embedding.")
    return vector
