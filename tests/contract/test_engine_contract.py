"""What every engine must do behind the gateway: `engine_under_test` says which engines, and what they lack.

`make test-engine URL=… MODEL=…` holds an engine at any address to the same (docs/operations.md).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from engine_under_test import EngineUnderTest
from gateways import gateway_of
from triplane.domain.completion import (
    CompletionRequest,
    FunctionCall,
    FunctionSpec,
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    NamedFunction,
    NamedTool,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
)
from triplane.domain.errors import ContextTooLong, ModelNotFound
from triplane.domain.events import Delta, EngineEvent, Finished, Started, ToolCallDelta
from triplane.inference.engines.engine import Engine
from triplane.inference.gateway import Gateway
from triplane.inference.service.rpc.client import RemoteGateway
from triplane.inference.service.rpc.server import serving

AnyGateway = Gateway | RemoteGateway


@pytest.fixture
def engine(under_test: EngineUnderTest) -> Engine:
    return under_test.engine


@pytest.fixture
async def gateway(under_test: EngineUnderTest) -> AsyncIterator[AnyGateway]:
    local = gateway_of(under_test.engine)
    if not under_test.over_grpc:
        yield local
        return
    async with serving(local, "127.0.0.1:0") as port:
        remote = RemoteGateway(f"127.0.0.1:{port}")
        yield remote
        await remote.close()


def ask(engine: Engine, text: str, **fields: Any) -> CompletionRequest:
    sampling = fields.pop("sampling", Sampling(max_tokens=16, temperature=0.0))
    messages = fields.pop("messages", [Message(role="user", content=text)])
    return CompletionRequest(
        request_id="req_test", model=engine.card.id, messages=messages, sampling=sampling, **fields
    )


async def run(gateway: AnyGateway, request: CompletionRequest) -> list[EngineEvent]:
    async with aclosing(await gateway.complete(request)) as completion:
        return [event async for event in completion]


def text_in(events: Sequence[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def finished(events: Sequence[EngineEvent]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished), last
    return last


def only_call(events: Sequence[EngineEvent]) -> tuple[str, dict[str, Any]]:
    deltas = [event for event in events if isinstance(event, ToolCallDelta)]
    assert {delta.index for delta in deltas} == {0}
    assert deltas[0].id
    assert deltas[0].name
    return deltas[0].name, json.loads("".join(delta.arguments for delta in deltas))


def tool(name: str, **properties: Any) -> Tool:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return Tool(
        type="function", function=FunctionSpec(name=name, description=f"Does {name}.", parameters=schema)
    )


WEATHER = tool("get_weather", city={"type": "string", "maxLength": 30}, unit={"enum": ["C", "F"]})
CLOCK = tool("get_time", zone={"type": "string", "maxLength": 30})


async def test_events_come_as_started_then_deltas_then_finished(gateway: AnyGateway, engine: Engine) -> None:
    events = await run(gateway, ask(engine, "Say hello."))

    assert isinstance(events[0], Started)
    assert all(isinstance(event, Delta) for event in events[1:-1])
    assert len(events) > 2
    assert finished(events).reason in ("stop", "length")


async def test_usage_is_the_engines_own_count(gateway: AnyGateway, engine: Engine) -> None:
    completion = await gateway.complete(ask(engine, "Tell me a story."))
    async with aclosing(completion):
        events = [event async for event in completion]

    usage = finished(events).usage
    assert usage.completion_tokens == 16
    assert usage.prompt_tokens > 5
    assert completion.usage == usage


async def test_an_answer_that_reaches_max_tokens_says_so(gateway: AnyGateway, engine: Engine) -> None:
    events = await run(gateway, ask(engine, "Count to a hundred.", sampling=Sampling(max_tokens=3)))

    assert finished(events).reason == "length"
    assert finished(events).usage.completion_tokens == 3


async def test_a_stop_sequence_ends_the_answer_before_it(gateway: AnyGateway, engine: Engine) -> None:
    free = text_in(await run(gateway, ask(engine, "List three colours.")))
    word = free.split()[2]

    events = await run(
        gateway,
        ask(engine, "List three colours.", sampling=Sampling(max_tokens=16, temperature=0.0, stop=[word])),
    )

    assert word not in text_in(events)
    assert free.startswith(text_in(events))
    assert finished(events).reason == "stop"


async def test_the_same_seed_gives_the_same_answer(
    gateway: AnyGateway, engine: Engine, under_test: EngineUnderTest
) -> None:
    request = ask(engine, "Invent a name.", sampling=Sampling(max_tokens=12, temperature=1.0, seed=2**40 + 7))
    if await under_test.refuses("seed", request):
        return

    answers = {text_in(await run(gateway, request)) for _ in "123"}

    assert len(answers) == 1


async def test_logprobs_come_with_the_text(
    gateway: AnyGateway, engine: Engine, under_test: EngineUnderTest
) -> None:
    sampling = Sampling(max_tokens=4, temperature=0.0, logprobs=True, top_logprobs=2)
    request = ask(engine, "Tell me a long story.", sampling=sampling)
    if await under_test.refuses("logprobs", request):
        return

    events = await run(gateway, request)

    entries = [entry for event in events if isinstance(event, Delta) for entry in event.logprobs or []]
    assert len(entries) == 4
    assert all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 2 for entry in entries)


async def test_a_json_schema_is_obeyed(
    gateway: AnyGateway, engine: Engine, under_test: EngineUnderTest
) -> None:
    under_test.needs("json_schema")
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "number": {"type": "integer"}},
        "required": ["colour", "number"],
        "additionalProperties": False,
    }
    wanted = JsonSchemaFormat(JsonSchema(name="pick", schema=schema))

    events = await run(
        gateway,
        ask(engine, "Pick.", response_format=wanted, sampling=Sampling(max_tokens=200, temperature=0.0)),
    )

    picked = json.loads(text_in(events))
    assert set(picked) == {"colour", "number"}
    assert picked["colour"] in ("red", "blue")


async def test_a_json_object_is_an_object(
    gateway: AnyGateway, engine: Engine, under_test: EngineUnderTest
) -> None:
    request = ask(
        engine,
        'Answer with {"ok": true}',
        response_format=JsonObjectFormat(),
        sampling=Sampling(max_tokens=300, temperature=0.0),
    )
    if await under_test.refuses("json_object", request):
        return

    events = await run(gateway, request)

    assert text_in(events).lstrip().startswith("{")
    if finished(events).reason == "stop":
        assert isinstance(json.loads(text_in(events)), dict)


@pytest.mark.parametrize(
    ("choice", "allowed"),
    [
        ("required", {"get_weather", "get_time"}),
        (NamedTool(type="function", function=NamedFunction("get_time")), {"get_time"}),
    ],
)
async def test_a_forced_tool_is_called(
    gateway: AnyGateway, engine: Engine, under_test: EngineUnderTest, choice: ToolChoice, allowed: set[str]
) -> None:
    under_test.needs("tools")
    events = await run(
        gateway,
        ask(
            engine,
            "What is it like in Paris?",
            tools=[WEATHER, CLOCK],
            tool_choice=choice,
            sampling=Sampling(max_tokens=200, temperature=0.0),
        ),
    )

    name, arguments = only_call(events)
    assert name in allowed
    assert set(arguments) == ({"city", "unit"} if name == "get_weather" else {"zone"})
    assert finished(events).reason == "tool_calls"
    assert text_in(events) == ""


async def test_tools_that_may_not_be_called_are_not(
    gateway: AnyGateway, engine: Engine, under_test: EngineUnderTest
) -> None:
    under_test.needs("tools")
    events = await run(gateway, ask(engine, "Weather in Paris?", tools=[WEATHER], tool_choice="none"))

    assert not [event for event in events if isinstance(event, ToolCallDelta)]
    assert text_in(events)


async def test_a_prompt_longer_than_the_context_is_refused(
    gateway: AnyGateway, engine: Engine, under_test: EngineUnderTest
) -> None:
    if not under_test.knows_context:
        pytest.skip("the engine's context length isn't known: give CONTEXT=…")
    text = "word " * (engine.card.context_length + 100)

    with pytest.raises(ContextTooLong) as refused:
        await gateway.complete(ask(engine, text))

    assert str(engine.card.context_length) in refused.value.message
    assert refused.value.param == "messages"


async def test_a_model_that_no_engine_serves_is_refused(gateway: AnyGateway, engine: Engine) -> None:
    request = CompletionRequest(request_id="req_test", model="nope", messages=[])

    with pytest.raises(ModelNotFound) as refused:
        await gateway.complete(request)

    assert "nope" in refused.value.message
    assert refused.value.param == "model"


async def test_four_streams_run_side_by_side(gateway: AnyGateway, engine: Engine) -> None:
    requests = [ask(engine, f"Write about the number {n}.") for n in range(4)]

    answers = await asyncio.gather(*(run(gateway, request) for request in requests))

    assert all(finished(events).usage.completion_tokens > 0 for events in answers)


async def test_a_closed_completion_ends_its_iteration(gateway: AnyGateway, engine: Engine) -> None:
    completion = await gateway.complete(ask(engine, "Tell a long story.", sampling=Sampling(max_tokens=500)))
    seen = [await anext(completion) for _ in range(3)]

    await completion.aclose()
    await completion.aclose()

    assert len(seen) == 3
    assert [event async for event in completion] == []
    assert 0 < completion.usage.completion_tokens < 500


async def test_a_final_message_of_the_assistant_is_gone_on_from(
    gateway: AnyGateway, engine: Engine, under_test: EngineUnderTest
) -> None:
    under_test.needs("continuation")
    begun = Message(role="assistant", content="The three primary colours are red, yellow and")

    events = await run(
        gateway,
        ask(
            engine,
            "",
            messages=[Message(role="user", content="Name the three primary colours."), begun],
            continue_final_message=True,
        ),
    )

    text = text_in(events)
    assert text.strip()
    assert not text.lstrip().startswith("The three primary")
    assert finished(events).usage.completion_tokens <= 16


async def test_a_tools_result_is_answered(
    gateway: AnyGateway, engine: Engine, under_test: EngineUnderTest
) -> None:
    under_test.needs("tools")
    call = ToolCall(id="call_1", function=FunctionCall("get_time", '{"zone": "CET"}'))
    messages = [
        Message(role="system", content="Answer in one sentence."),
        Message(role="user", content="What time is it?"),
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", tool_call_id="call_1", content="10:15"),
    ]

    events = await run(gateway, ask(engine, "", messages=messages, tools=[CLOCK]))

    assert len(events) > 2
    assert finished(events).usage.prompt_tokens > 10


async def test_the_engines_load_is_told_or_it_has_none(gateway: AnyGateway, engine: Engine) -> None:
    completion = await gateway.complete(ask(engine, "Tell a long story.", sampling=Sampling(max_tokens=200)))
    async with aclosing(completion):
        await anext(completion)
        load = await engine.load()

    assert load is None or (load.running >= 0 and load.waiting >= 0)
    assert load is None or load.kv_usage is None or 0 <= load.kv_usage <= 1


async def test_an_engine_that_serves_says_so(engine: Engine) -> None:
    await engine.check()


async def test_tokens_are_counted_for_each_message(gateway: AnyGateway, engine: Engine) -> None:
    messages = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="hello " * 50),
        Message(role="assistant", content="Hi."),
    ]

    counts = await gateway.count_tokens(engine.card.id, messages)

    assert len(counts) == 3
    assert counts[1] > counts[0]
    assert counts[1] > 50
