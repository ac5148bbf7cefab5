"""What each kind of OpenAI-wire engine is sent, and what is made of what it tells."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from triplane.domain.completion import (
    CompletionRequest,
    Flow,
    FunctionCall,
    FunctionSpec,
    Message,
    ModelCard,
    NamedFunction,
    NamedTool,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from triplane.domain.errors import EngineFailed, EngineUnavailable, InvalidRequest, TriplaneError
from triplane.domain.events import EngineEvent, Finished, ToolCallDelta, Usage
from triplane.inference.engines.engine import NO_HINTS, Engine, EngineLoad, Hints, PrefillEngine
from triplane.inference.engines.llama_cpp import LlamaCppEngine
from triplane.inference.engines.openai_http import OpenAIEngine
from triplane.inference.engines.sglang import SglangEngine
from triplane.inference.engines.vllm import VllmEngine
from upstream import Handler, Upstream, answers, in_turn, streams, upstream

COMPLETIONS = "/v1/chat/completions"
CARD = ModelCard(id="m", context_length=100, owned_by="test")
DONE = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
NAMED = NamedTool(type="function", function=NamedFunction("f"))
E = TypeVar("E", bound=OpenAIEngine)
TOOLS = [Tool(type="function", function=FunctionSpec(name="f"))]


def ask(*messages: Message, **fields: Any) -> CompletionRequest:
    asked = messages or (Message(role="user", content="Hi"),)
    return CompletionRequest(request_id="req_1", model="m", messages=list(asked), **fields)


@asynccontextmanager
async def engine_at(kind: type[E], handlers: dict[str, Handler]) -> AsyncIterator[tuple[E, Upstream]]:
    async with upstream(handlers) as server:
        engine = kind(server.url, CARD, engine_model="served")
        try:
            yield engine, server
        finally:
            await engine.close()


async def events_of(engine: Engine, request: CompletionRequest, hints: Hints = NO_HINTS) -> list[EngineEvent]:
    stream = await engine.start(request, {}, hints)
    events: list[EngineEvent] = []
    try:
        while (more := await stream.read()) is not None:
            events += more
    finally:
        await stream.aclose()
    return events


async def sent_by(
    kind: type[OpenAIEngine], request: CompletionRequest, hints: Hints = NO_HINTS
) -> dict[str, Any]:
    async with engine_at(kind, {COMPLETIONS: streams(DONE)}) as (engine, server):
        await events_of(engine, request, hints)
    body: dict[str, Any] = server.bodies(COMPLETIONS)[-1]
    return body


CONTINUED = ask(
    Message(role="user", content="Tell"),
    Message(role="assistant", content=[TextPart("Once "), TextPart("upon ")]),
    continue_final_message=True,
    cache_salt="salt",
)


# What is sent.


async def test_vllm_is_told_to_go_on_whose_cache_it_is_and_what_comes_first() -> None:
    transfer = {"do_remote_prefill": True, "remote_host": "p", "remote_block_ids": [1, 2]}

    body = await sent_by(VllmEngine, CONTINUED, Hints(priority=10, kv_transfer=transfer))

    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["cache_salt"] == "salt"
    assert body["priority"] == 10
    assert body["kv_transfer_params"] == transfer
    assert body["request_id"].endswith("-req_1")


async def test_sglang_is_told_to_go_on_from_one_string_under_an_id_that_begins_freshly() -> None:
    body = await sent_by(SglangEngine, CONTINUED, Hints(priority=10))
    again = await sent_by(SglangEngine, CONTINUED)

    assert body["continue_final_message"] is True
    assert "add_generation_prompt" not in body
    assert body["messages"][-1]["content"] == "Once upon "
    assert body["cache_salt"] == "salt"
    assert "priority" not in body
    assert body["rid"].endswith("-req_1")
    assert not again["rid"].startswith(body["rid"].removesuffix("-req_1"))


@pytest.mark.parametrize("kind", [VllmEngine, SglangEngine])
async def test_nothing_is_said_of_what_was_not_asked(kind: type[OpenAIEngine]) -> None:
    body = await sent_by(kind, ask())

    assert set(body) - {"request_id", "rid"} == {"model", "messages", "stream", "stream_options"}


@pytest.mark.parametrize(("kind", "every"), [(VllmEngine, True), (SglangEngine, True), (OpenAIEngine, False)])
async def test_usage_is_asked_for_with_every_chunk_where_that_is_known(
    kind: type[OpenAIEngine], every: bool
) -> None:
    options = (await sent_by(kind, ask()))["stream_options"]

    assert options["include_usage"] is True
    assert options.get("continuous_usage_stats", False) is every


async def test_openai_can_not_continue() -> None:
    engine = OpenAIEngine("http://127.0.0.1:9/v1", CARD)

    with pytest.raises(InvalidRequest, match="can't continue"):
        await engine.start(CONTINUED, {})


async def test_openai_is_given_a_cache_key_that_names_nobody_if_the_operator_allows() -> None:
    request = ask(flow=Flow(tenant="t", user="ann", affinity="conv_1"))
    keys = []
    async with upstream({COMPLETIONS: streams(DONE)}) as server:
        for allowed in (False, True, True):
            engine = OpenAIEngine(server.url, CARD, prompt_cache_key=allowed)
            await events_of(engine, request)
            await engine.close()
            keys.append(server.bodies(COMPLETIONS)[-1].get("prompt_cache_key"))

    assert keys[0] is None
    assert keys[1] == keys[2]
    assert len(keys[1]) == 32
    assert "conv_1" not in keys[1]


# What is learned.


async def test_a_vllm_without_priorities_is_asked_without_them_from_then_on() -> None:
    refused = answers(400, {"message": "Got priority 10 but Priority scheduling is not enabled."})
    handlers = {COMPLETIONS: in_turn(refused, streams(DONE))}
    async with engine_at(VllmEngine, handlers) as (engine, server):
        for _ in "12":
            await events_of(engine, ask(), Hints(priority=10))

    assert ["priority" in body for body in server.bodies(COMPLETIONS)] == [True, False, False]


async def test_a_model_that_wants_max_completion_tokens_gets_them_from_then_on() -> None:
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    handlers = {COMPLETIONS: in_turn(answers(400, {"error": {"message": message}}), streams(DONE))}
    async with engine_at(OpenAIEngine, handlers) as (engine, server):
        for _ in "12":
            await events_of(engine, ask(sampling=Sampling(max_tokens=5)))

    limits = [
        (body.get("max_tokens"), body.get("max_completion_tokens")) for body in server.bodies(COMPLETIONS)
    ]
    assert limits == [(5, None), (None, 5), (None, 5)]


async def test_another_refusal_is_passed_on_at_once() -> None:
    async with engine_at(VllmEngine, {COMPLETIONS: answers(400, {"message": "no"})}) as (engine, server):
        with pytest.raises(InvalidRequest):
            await events_of(engine, ask(), Hints(priority=10))

    assert len(server.requests) == 1


# Prefill apart from decode.


async def test_a_prefill_reads_the_prompt_and_says_where_its_cache_lies() -> None:
    transfer = {"do_remote_prefill": True, "do_remote_decode": False, "remote_host": "10.0.0.1"}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}
    answer = {"choices": [{}], "usage": usage, "kv_transfer_params": transfer}
    async with engine_at(VllmEngine, {COMPLETIONS: answers(200, answer)}) as (engine, server):
        assert isinstance(engine, PrefillEngine)
        found, used = await engine.prefill(ask(sampling=Sampling(max_tokens=50)), {"traceparent": "00-x"})

    [body] = server.bodies(COMPLETIONS)
    assert found == transfer
    assert used == Usage(prompt_tokens=9, completion_tokens=1, cached_tokens=4)
    assert (body["stream"], body["max_tokens"], "stream_options" in body) == (False, 1, False)
    assert body["kv_transfer_params"]["do_remote_decode"] is True
    assert body["kv_transfer_params"]["do_remote_prefill"] is False
    assert server.requests[0].headers["traceparent"] == "00-x"


@pytest.mark.parametrize("answer", [b'{"choices": []}', b"nonsense", b"[]"])
async def test_a_prefill_that_leads_nowhere_is_a_failure(answer: bytes) -> None:
    async with engine_at(VllmEngine, {COMPLETIONS: answers(200, answer)}) as (engine, _):
        with pytest.raises(EngineFailed):
            await engine.prefill(ask(), {})


# Load.

VLLM_METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_running_total{engine="0"} 99.0
vllm:num_requests_waiting{engine="0",model_name="m"} 5.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 5.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m} x"} 5e-01
"""
SGLANG_METRICS = """sglang:num_running_reqs{model_name="m",tp_rank="0"} 2.0
sglang:num_running_reqs{model_name="m",tp_rank="1"} 2.0
sglang:num_running_reqs{model_name="m",priority="5",tp_rank="0"} 2.0
sglang:num_queue_reqs{model_name="m",priority="",tp_rank="0"} 1.0
sglang:token_usage{model_name="m",tp_rank="0"} NaN
sglang:token_usage{model_name="m",tp_rank="0"} 0.5"""
LLAMA_METRICS = "llamacpp:requests_processing 3\nllamacpp:requests_deferred 1\n"


@pytest.mark.parametrize(
    ("kind", "text", "load"),
    [
        (VllmEngine, VLLM_METRICS, EngineLoad(running=4, waiting=5, kv_usage=0.5)),
        (
            VllmEngine,
            "vllm:num_requests_running 1\nvllm:num_requests_waiting 0\nvllm:gpu_cache_usage_perc 0.1",
            EngineLoad(running=1, waiting=0, kv_usage=0.1),
        ),
        (SglangEngine, SGLANG_METRICS, EngineLoad(running=2, waiting=1, kv_usage=0.5)),
        (LlamaCppEngine, LLAMA_METRICS, EngineLoad(running=3, waiting=1)),
    ],
)
async def test_the_load_is_read_from_the_metrics(
    kind: type[OpenAIEngine], text: str, load: EngineLoad
) -> None:
    async with engine_at(kind, {"/metrics": answers(200, text.encode())}) as (engine, _):
        assert await engine.load() == load


@pytest.mark.parametrize("kind", [VllmEngine, SglangEngine, LlamaCppEngine])
@pytest.mark.parametrize("status", [404, 501])
async def test_an_engine_without_metrics_has_no_load(kind: type[OpenAIEngine], status: int) -> None:
    async with engine_at(kind, {"/metrics": answers(status)}) as (engine, _):
        assert await engine.load() is None


@pytest.mark.parametrize(
    "text", [b"", b"vllm:num_requests_running{", b"vllm:num_requests_running x", b"\xff"]
)
async def test_metrics_that_say_nothing_of_load_are_an_error(text: bytes) -> None:
    async with engine_at(VllmEngine, {"/metrics": answers(200, text)}) as (engine, _):
        with pytest.raises(EngineUnavailable):
            await engine.load()


# Counting.

MESSAGES = [
    Message(role="system", content="Be brief."),
    Message(role="user", content=""),
    Message(
        role="assistant",
        tool_calls=[ToolCall(id="call_1", function=FunctionCall(name="f", arguments="{}"))],
    ),
]


async def test_vllm_counts_each_text_once_and_what_its_template_adds() -> None:
    """A tokenizer of letters, and a template with 20 tokens in front and 3 around each message."""

    async def tokenize(request: Any) -> Any:
        asked = json.loads(await request.read())
        texts = [message["content"] for message in asked.get("messages", [])]
        count = len(asked["prompt"]) if "prompt" in asked else 20 + sum(3 + len(text) for text in texts)
        return await answers(200, {"count": count, "tokens": [], "max_model_len": 100})(request)

    async with engine_at(VllmEngine, {"/tokenize": tokenize}) as (engine, server):
        counts = await engine.count_tokens(MESSAGES)
        asked = len(server.requests)
        again = await engine.count_tokens(MESSAGES[:2])

        assert counts[:2] == [9 + 3, 3]
        assert counts[2] > 20
        assert again == counts[:2]
        assert len(server.requests) == asked


async def test_sglang_counts_all_texts_at_once() -> None:
    handlers = {"/tokenize": answers(200, {"count": [2, 0, 9], "tokens": [[1]]})}
    async with engine_at(SglangEngine, handlers) as (engine, server):
        assert await engine.count_tokens(MESSAGES) == [2 + 8, 8, 9 + 8]
        assert await engine.count_tokens([]) == []

    assert [len(body["prompt"]) for body in server.bodies("/tokenize")] == [3]


@pytest.mark.parametrize("kind", [VllmEngine, SglangEngine])
async def test_without_a_tokenizer_the_count_is_a_bound(kind: type[OpenAIEngine]) -> None:
    async with engine_at(kind, {}) as (engine, _):
        assert (await engine.count_tokens(MESSAGES))[:2] == [len("Be brief.") + 8, 8]


@pytest.mark.parametrize("answer", [b'{"count": [1]}', b'{"count": 3}', b"x"])
async def test_a_count_that_is_none_is_a_failure(answer: bytes) -> None:
    async with engine_at(SglangEngine, {"/tokenize": answers(200, answer)}) as (engine, _):
        with pytest.raises(EngineFailed):
            await engine.count_tokens(MESSAGES)


# Arguments of tool calls.


def call_stream(*pieces: str, reason: str = "stop") -> Handler:
    first = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": ""}}
    calls = [first, *({"index": 0, "function": {"arguments": piece}} for piece in pieces)]
    chunks: list[Any] = [{"choices": [{"delta": {"tool_calls": [call]}}]} for call in calls]
    chunks.append({"choices": [{"delta": {}, "finish_reason": reason}]})
    return streams(*(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks), b"data: [DONE]\n\n")


async def arguments_of(choice: ToolChoice, *pieces: str, reason: str = "stop") -> str:
    async with engine_at(VllmEngine, {COMPLETIONS: call_stream(*pieces, reason=reason)}) as (engine, _):
        events = await events_of(engine, ask(tools=TOOLS, tool_choice=choice))
    assert isinstance(events[-1], Finished)
    return "".join(event.arguments for event in events if isinstance(event, ToolCallDelta))


@pytest.mark.parametrize("choice", [NAMED, "required", "auto"])
@pytest.mark.parametrize(
    "pieces", [['"{\\"x\\": 1}"'], [' "{\\"x\\"', ': 1}"'], ['{"x"', ": 1}"], ["", '{"x": 1}']]
)
async def test_arguments_are_an_object_and_not_a_text_of_one(choice: ToolChoice, pieces: list[str]) -> None:
    assert json.loads(await arguments_of(choice, *pieces)) == {"x": 1}


@pytest.mark.parametrize("pieces", [['"Bonn"'], ['"unfinished'], ["[1]"], ["{"], ["nonsense"]])
async def test_a_forced_call_without_an_object_is_a_failure_a_free_one_passes_as_it_is(
    pieces: list[str],
) -> None:
    failures: list[TriplaneError] = []
    for choice in (NAMED, "required"):
        with pytest.raises(EngineFailed) as failed:
            await arguments_of(choice, *pieces)
        failures.append(failed.value)

    assert len(failures) == 2
    assert await arguments_of("auto", *pieces) == "".join(pieces)
    assert await arguments_of(NAMED, *pieces, reason="length") == "".join(pieces)
