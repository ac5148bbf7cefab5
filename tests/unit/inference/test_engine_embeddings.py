"""What engines are asked for embeddings, and what is made of what they answer, nonsense included."""

import base64
import struct
from typing import Any

import pytest
from test_engine_kinds import engine_at

from triplane.domain.embeddings import Embedded, EmbeddingRequest, numbers_of
from triplane.domain.errors import ContextTooLong, EngineFailed, InvalidRequest, Overloaded
from triplane.domain.events import Usage
from triplane.inference.engines.llama_cpp import LlamaCppEngine
from triplane.inference.engines.openai_http import OpenAIEngine
from triplane.inference.engines.sglang import SglangEngine
from triplane.inference.engines.vllm import VllmEngine
from upstream import Handler, answers

EMBEDDINGS = "/v1/embeddings"
KINDS = [OpenAIEngine, VllmEngine, SglangEngine, LlamaCppEngine]


def in_base64(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def answer(*vectors: Any, **usage: Any) -> Handler:
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return answers(200, {"data": list(reversed(data)), "model": "served", "usage": usage})


async def embed(handler: Handler, kind: type[OpenAIEngine] = OpenAIEngine, **fields: Any) -> Embedded:
    async with engine_at(kind, {EMBEDDINGS: handler}) as (engine, _):
        return await engine.embed(asked(**fields), {})


def asked(**fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest(**{"request_id": "req_1", "model": "m", "inputs": ["a", [7]], **fields})


@pytest.mark.parametrize("kind", KINDS)
async def test_an_engine_is_asked_on_openais_wire(kind: type[OpenAIEngine]) -> None:
    handler = answer(in_base64(1.0), in_base64(2.0), prompt_tokens=3)
    async with engine_at(kind, {EMBEDDINGS: handler}) as (engine, server):
        embedded = await engine.embed(asked(dimensions=1, user="ann"), {})
        [body] = server.bodies(EMBEDDINGS)

    assert body == {
        "model": "served",
        "input": ["a", [7]],
        "encoding_format": "base64",
        "dimensions": 1,
        "user": "ann",
    }
    assert [numbers_of(each) for each in embedded.vectors] == [[1.0], [2.0]]
    assert embedded.usage == Usage(prompt_tokens=3)


async def test_a_server_that_knows_no_base64_may_send_numbers() -> None:
    embedded = await embed(answer([0.5, 1], [0.25, -1]))
    assert [numbers_of(each) for each in embedded.vectors] == [[0.5, 1.0], [0.25, -1.0]]


@pytest.mark.parametrize(
    "handler",
    [
        answer([1.0]),
        answer([1.0], [1.0], [1.0]),
        answer([1.0], [1.0, 2.0]),
        answer([], []),
        answer("not base64!", "AAAA"),
        answer("AAA=", "AAA="),
        answer([1e300], [1.0]),
        answers(200, {"data": [{"index": 1, "embedding": [1]}, {"index": 1, "embedding": [1]}]}),
        answers(200, {"object": "list"}),
    ],
    ids=["too few", "too many", "lengths", "empty", "junk", "no floats", "too large", "places", "no data"],
)
async def test_nonsense_is_an_engine_that_has_failed(handler: Handler) -> None:
    with pytest.raises(EngineFailed):
        await embed(handler)


async def test_an_engine_without_embeddings_is_no_failure_of_the_engine() -> None:
    missing = {
        "error": {"code": 501, "message": "Start it with `--embeddings`", "type": "not_supported_error"}
    }
    with pytest.raises(InvalidRequest, match="doesn't give embeddings"):
        await embed(answers(501, missing), LlamaCppEngine)


async def test_refusals_keep_their_kind_and_name_the_input() -> None:
    too_long = {"error": {"message": "This model's maximum context length is 9 tokens."}}
    with pytest.raises(ContextTooLong) as refused:
        await embed(answers(400, too_long))
    assert refused.value.param == "input"
    too_large = {"error": {"code": 500, "message": "input (99 tokens) is too large to process."}}
    with pytest.raises(ContextTooLong):
        await embed(answers(500, too_large), LlamaCppEngine)
    with pytest.raises(Overloaded):
        await embed(answers(429, {"error": {"message": "slow down"}}))
