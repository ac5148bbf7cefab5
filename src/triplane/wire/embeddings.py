"""OpenAI's embeddings: the request held to its type and its bounds, and the answer."""

import asyncio
import binascii
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from triplane.domain.completion import Flow
from triplane.domain.embeddings import (
    EmbeddingInput,
    EmbeddingRequest,
    Vector,
    estimated_input_tokens,
    numbers_of,
)
from triplane.domain.errors import InvalidRequest
from triplane.domain.events import Usage
from triplane.wire.chat_completions import CachedTokens

MOST_INPUTS = 2048
MOST_TOKENS = 300_000
"""Of all inputs together; both are OpenAI's own bounds. Texts are taken at four bytes a token."""
MOST_DIMENSIONS = 65_536
_MANY_NUMBERS = 32_768

EncodingFormat = Literal["float", "base64"]
TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`input` is a text, a list of texts, the token ids of one text, or a list of such lists."""

    model: str
    input: str | list[str | TokenId | list[TokenId]]
    encoding_format: EncodingFormat = "float"
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=MOST_DIMENSIONS)] | None = None
    user: str | None = None


class EmbeddingObject(msgspec.Struct, frozen=True, kw_only=True):
    """`embedding` is a list of numbers, or in base64 the bytes of little-endian 32-bit floats."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingsUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the engine counted them. Cached ones came from memory, and aren't billed."""

    prompt_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class EmbeddingsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    data: list[EmbeddingObject]
    usage: EmbeddingsUsage
    object: Literal["list"] = "list"


def embedding_request(body: EmbeddingsRequest, *, request_id: str, flow: Flow) -> EmbeddingRequest:
    """What the gateway is asked. Raises InvalidRequest."""
    inputs = _inputs(body.input)
    if len(inputs) > MOST_INPUTS:
        raise InvalidRequest(f"input has {len(inputs)} texts; {MOST_INPUTS} is the most.", param="input")
    if not inputs or not all(inputs):
        raise InvalidRequest("input is empty, or one of its texts is.", param="input")
    if estimated_input_tokens(inputs) > MOST_TOKENS:
        raise InvalidRequest(
            f"input is over {MOST_TOKENS:,} tokens in all: send it in several requests.", param="input"
        )
    return EmbeddingRequest(
        request_id=request_id,
        model=body.model,
        inputs=inputs,
        dimensions=body.dimensions,
        user=body.user,
        flow=flow,
    )


def _inputs(sent: str | list[str | int | list[int]]) -> list[EmbeddingInput]:
    if isinstance(sent, str):
        return [sent]
    ids = [each for each in sent if isinstance(each, int)]
    if not ids:
        return [each for each in sent if not isinstance(each, int)]
    if len(ids) < len(sent):
        raise InvalidRequest("input mixes token ids and texts: send one or the other.", param="input")
    return [ids]


async def encode_embeddings(body: EmbeddingsRequest, vectors: Sequence[Vector], usage: Usage) -> bytes:
    """The answer's JSON. Many numbers are written with pauses, so that streams beside it go on."""
    told = EmbeddingsUsage(
        prompt_tokens=usage.prompt_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=CachedTokens(usage.cached_tokens),
    )
    data: list[msgspec.Raw] = []
    written = 0
    for index, vector in enumerate(vectors):
        shown = _shown(vector, body.encoding_format)
        data.append(msgspec.Raw(msgspec.json.encode(EmbeddingObject(index=index, embedding=shown))))
        written += len(vector) // 4
        if written > _MANY_NUMBERS:
            written = 0
            await asyncio.sleep(0)
    return msgspec.json.encode({"object": "list", "data": data, "model": body.model, "usage": told})


def _shown(vector: Vector, encoding: EncodingFormat) -> list[float] | str:
    if encoding == "base64":
        return binascii.b2a_base64(vector, newline=False).decode()
    return numbers_of(vector)
