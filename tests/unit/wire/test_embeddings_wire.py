"""The bounds and shapes of an embeddings request."""

from typing import Any

import pytest

from triplane.domain.completion import Flow
from triplane.domain.embeddings import vector_of
from triplane.domain.errors import InvalidRequest
from triplane.domain.events import Usage
from triplane.wire.embeddings import (
    MOST_INPUTS,
    MOST_TOKENS,
    EmbeddingsAnswer,
    EmbeddingsRequest,
    embedding_request,
    encode_embeddings,
)
from triplane.wire.strict_json import decode_strictly

WHOSE: dict[str, Any] = {"request_id": "req_test", "flow": Flow()}


def read(sent: str) -> Any:
    body = decode_strictly(b'{"model":"m","input":%b}' % sent.encode(), EmbeddingsRequest)
    return embedding_request(body, **WHOSE).inputs


def test_a_text_texts_and_token_ids_are_told_apart() -> None:
    assert read('"a"') == ["a"]
    assert read('["a","b"]') == ["a", "b"]
    assert read("[1,2]") == [[1, 2]]
    assert read("[[1,2],[3]]") == [[1, 2], [3]]


@pytest.mark.parametrize("sent", ['""', "[]", '["a",""]', "[[]]", '["a",1]', "[1,[2]]"])
def test_what_is_empty_or_mixed_is_refused(sent: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(sent)
    assert refused.value.param == "input"


@pytest.mark.parametrize(
    "inputs", [["a"] * (MOST_INPUTS + 1), ["x" * (MOST_TOKENS * 4 + 8)], [[1] * (MOST_TOKENS // 2 + 1)] * 2]
)
def test_what_is_too_much_is_refused(inputs: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        embedding_request(EmbeddingsRequest(model="m", input=inputs), **WHOSE)
    assert refused.value.param == "input"


async def test_an_answer_has_the_documented_shape() -> None:
    asked = EmbeddingsRequest(model="m", input="a")
    raw = await encode_embeddings(
        asked, [vector_of([0.5, -1.0])] * 2, Usage(prompt_tokens=3, cached_tokens=1)
    )
    answer = decode_strictly(raw, EmbeddingsAnswer)
    assert [(each.index, each.embedding) for each in answer.data] == [(0, [0.5, -1.0]), (1, [0.5, -1.0])]
    assert (answer.usage.total_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (3, 1)
