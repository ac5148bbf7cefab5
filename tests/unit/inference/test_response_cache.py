"""What the response cache takes for the same request, and what it keeps."""

from typing import Any

import msgspec
import pytest

from triplane.domain.completion import CompletionRequest, Flow, Message, Sampling
from triplane.domain.events import Delta, Finished, Started, Usage
from triplane.inference.response_cache import (
    CachedAnswer,
    MemoryResponses,
    ResponseCache,
    cache_key,
    may_cache,
)

REQUEST = CompletionRequest(
    request_id="req_1",
    model="fast",
    messages=[Message(role="user", content="Hi")],
    sampling=Sampling(temperature=0.0, max_tokens=5),
    flow=Flow(tenant="t1", user="u1", caches=True),
)
ANSWER = CachedAnswer(
    model="m", text="Hello.", reason="stop", usage=Usage(prompt_tokens=3, completion_tokens=2)
)


def changed(**fields: Any) -> CompletionRequest:
    return msgspec.structs.replace(REQUEST, **fields)


@pytest.mark.parametrize(
    "request_",
    [
        changed(sampling=Sampling(temperature=0.7)),
        changed(sampling=Sampling()),
        changed(sampling=Sampling(temperature=0.0, logprobs=True)),
        changed(flow=Flow(tenant="t1")),
        changed(continue_final_message=True),
    ],
)
def test_only_what_is_said_again_word_for_word_is_cached_and_only_when_asked(
    request_: CompletionRequest,
) -> None:
    assert may_cache(REQUEST)
    assert not may_cache(request_)


def test_whose_a_request_is_makes_no_other_request_but_all_else_does() -> None:
    same = changed(request_id="req_2", user="x", cache_salt="y", flow=Flow(tenant="t2", user="u2"))
    others = [
        changed(model="capable"),
        changed(messages=[Message(role="user", content="Hi!")]),
        changed(sampling=Sampling(temperature=0.0, max_tokens=6)),
    ]

    assert cache_key(same) == cache_key(REQUEST)
    assert len({cache_key(each) for each in [REQUEST, *others]}) == 4


async def test_an_answer_is_told_again_within_its_tenant_only() -> None:
    cache = ResponseCache(MemoryResponses())
    await cache.keep(REQUEST, ANSWER)

    found = await cache.find(REQUEST)
    elsewhere = await cache.find(changed(flow=Flow(tenant="t2", caches=True)))

    assert found is not None
    assert [event async for event in found] == [
        Started(engine="cache", model="m", is_cached=True),
        Delta(text="Hello."),
        Finished(reason="stop", usage=ANSWER.usage),
    ]
    assert found.calls == []
    assert elsewhere is None


async def test_memory_keeps_the_answers_that_were_used_last() -> None:
    store = MemoryResponses(most_characters=10)
    await store.put("t", "a", b"12345", 60)
    await store.put("t", "b", b"12345", 60)
    await store.get("t", "a")
    await store.put("t", "c", b"12345", 60)

    assert [await store.get("t", key) for key in "abc"] == [b"12345", None, b"12345"]
