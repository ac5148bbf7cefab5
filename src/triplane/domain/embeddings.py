"""Embeddings: texts in, a vector for each. The shapes are OpenAI's (platform.openai.com/docs/api-reference).

A vector is kept as the bytes of little-endian 32-bit floats, as engines send it, from engine to client.
"""

import array
import sys
from collections.abc import Iterable, Sequence

import msgspec

from triplane.domain.completion import Flow
from triplane.domain.events import Usage

EmbeddingInput = str | list[int]
"""A text, or its token ids by the model's own tokenizer."""

Vector = bytes

_BYTES_PER_TOKEN = 4
"""A rule of thumb, for text that nobody has counted yet."""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request to the gateway. `dimensions` None takes those of the model."""

    request_id: str
    model: str
    inputs: list[EmbeddingInput]
    dimensions: int | None = None
    user: str | None = None
    flow: Flow = Flow()


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """A vector for each input, in their order, and the tokens that the engine has read for them."""

    vectors: list[Vector]
    usage: Usage
    model: str = ""


def size_of(text: EmbeddingInput) -> int:
    """About how many tokens an input has, at least one."""
    if isinstance(text, list):
        return len(text)
    return max(1, len(text.encode()) // _BYTES_PER_TOKEN)


def estimated_input_tokens(inputs: Iterable[EmbeddingInput]) -> int:
    """What a request may need, before anybody counts: for reserving, not for billing."""
    return sum(map(size_of, inputs))


def vector_of(numbers: Sequence[float]) -> Vector:
    """Raises OverflowError, TypeError: not all of them are numbers of 32 bits."""
    return _little(array.array("f", numbers)).tobytes()


def numbers_of(vector: Vector) -> list[float]:
    numbers = array.array("f")
    numbers.frombytes(vector)
    return _little(numbers).tolist()


def _little(numbers: "array.array[float]") -> "array.array[float]":
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
