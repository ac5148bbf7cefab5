"""The simulated engine over its wire: what a gateway sees of it, well and ill."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from simulated_engines import (
    engine_at,
    records_of,
    running_simulated_engines,
    set_faults,
    simulated_engine_process,
    simulation_of,
)
from triplane.domain.completion import CompletionRequest, Message, Sampling
from triplane.domain.errors import EngineFailed, EngineUnavailable, Overloaded
from triplane.domain.events import Delta, Finished
from triplane.inference.simulated_engine.faults import (
    CloseListener,
    Drop,
    ErrorEvent,
    Fault,
    FaultPlan,
    Garbage,
    Hang,
    Refuse,
    Slow,
)
from triplane.inference.simulated_engine.roofline import BLOCK_TOKENS
from triplane.inference.simulated_engine.scheduler import Limits
from triplane.inference.simulated_engine.server import SimulatedEngineServer
from waiting import until

WITHIN_S = 20.0
QUESTION = [{"role": "user", "content": "Tell me about rivers, at length please."}]


@pytest.fixture
async def server() -> AsyncIterator[SimulatedEngineServer]:
    async with running_simulated_engines(1) as [server]:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(
    http: aiohttp.ClientSession, server: SimulatedEngineServer, **fields: Any
) -> tuple[int, dict[str, Any]]:
    """One request that isn't streamed: its status and body."""
    body = {"messages": QUESTION, "max_tokens": 20, **fields}
    async with http.post(f"{server.url}/chat/completions", json=body) as response:
        return response.status, await response.json()


async def answer_to(
    http: aiohttp.ClientSession, server: SimulatedEngineServer, **fields: Any
) -> dict[str, Any]:
    status, body = await ask(http, server, **fields)
    assert status == 200, body
    return body


def text_of(body: dict[str, Any]) -> str:
    text = body["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


async def stream(
    http: aiohttp.ClientSession, server: SimulatedEngineServer, **fields: Any
) -> list[dict[str, Any]]:
    """The chunks of one stream, up to [DONE]."""
    body = {"messages": QUESTION, "max_tokens": 20, "stream": True, **fields}
    async with http.post(f"{server.url}/chat/completions", json=body) as response:
        payloads = [line[6:] async for line in response.content if line.startswith(b"data: ")]
    assert payloads.pop() == b"[DONE]\n"
    return [json.loads(payload) for payload in payloads]


def completion(text: str = "Tell me about rivers.", most: int = 20) -> CompletionRequest:
    return CompletionRequest(
        request_id="req_test",
        model="",
        messages=[Message(role="user", content=text)],
        sampling=Sampling(max_tokens=most),
    )


async def read_all(server: SimulatedEngineServer, request: CompletionRequest) -> str:
    """The whole answer through the gateway's engine. Raises what it raises, its stream closed."""
    engine = engine_at(server)
    try:
        running = await engine.start(request, {})
        text = ""
        try:
            while (events := await running.read()) is not None:
                text += "".join(event.text for event in events if isinstance(event, Delta))
                if any(isinstance(event, Finished) for event in events):
                    break
        finally:
            await running.aclose()
        return text
    finally:
        await engine.close()


async def test_it_says_everywhere_that_it_is_simulated(
    http: aiohttp.ClientSession, server: SimulatedEngineServer
) -> None:
    async with http.get(f"{server.url}/models") as response:
        card = (await response.json())["data"][0]
        assert response.headers["server"] == "triplane-simulated-engine"

    assert card["id"] == "simulated-llama-8b"
    assert card["owned_by"] == "triplane-simulated"
    assert (await answer_to(http, server))["model"] == "simulated-llama-8b"
    assert server.engine.simulation.simulated


async def test_a_stream_and_a_whole_answer_are_the_same(
    http: aiohttp.ClientSession, server: SimulatedEngineServer
) -> None:
    whole = await answer_to(http, server)
    chunks = await stream(http, server, stream_options={"include_usage": True})

    parts = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
    assert "".join(parts) == text_of(whole)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == 20


async def test_usage_comes_with_every_chunk_when_it_is_asked_for(
    http: aiohttp.ClientSession, server: SimulatedEngineServer
) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await stream(http, server, max_tokens=5, stream_options=options)

    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks if "usage" in chunk]
    assert counts == [1, 2, 3, 4, 5, 5]


async def test_an_answer_continued_from_any_of_its_tokens_goes_on_with_the_same_text(
    http: aiohttp.ClientSession,
) -> None:
    """On another replica, as after a failure."""
    async with running_simulated_engines(2) as [one, other]:
        whole = text_of(await answer_to(http, one, max_tokens=30))
        for cut in range(0, len(whole), 7):
            begun = {"role": "assistant", "content": whole[:cut]}
            rest = await answer_to(
                http,
                other,
                messages=[*QUESTION, begun],
                max_tokens=40,
                continue_final_message=True,
                add_generation_prompt=False,
            )
            assert (whole[:cut] + text_of(rest)).startswith(whole)


async def test_the_next_turn_finds_the_conversation_in_the_prefix_cache(
    http: aiohttp.ClientSession, server: SimulatedEngineServer
) -> None:
    first = await answer_to(http, server, max_tokens=60)
    said = {"role": "assistant", "content": text_of(first)}
    turn = [*QUESTION, said, {"role": "user", "content": "Go on."}]

    second = await answer_to(http, server, messages=turn)
    other_tenant = await answer_to(http, server, messages=turn, cache_salt="another tenant")

    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    known = first["usage"]["prompt_tokens"] + 59
    assert cached == known // BLOCK_TOKENS * BLOCK_TOKENS
    assert other_tenant["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_a_forced_tool_is_called_with_arguments_that_its_schema_allows(
    http: aiohttp.ClientSession, server: SimulatedEngineServer
) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}}}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    fields: dict[str, Any] = {"tools": [tool], "tool_choice": "required", "max_tokens": 100}

    whole = await answer_to(http, server, **fields)
    chunks = await stream(http, server, **fields)

    [call] = whole["choices"][0]["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert call["function"]["name"] == "get_weather"
    assert set(arguments) == {"city", "unit"}
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    deltas = [chunk["choices"][0]["delta"].get("tool_calls") for chunk in chunks]
    pieces = [delta[0]["function"]["arguments"] for delta in deltas if delta]
    assert json.loads("".join(pieces)) == arguments


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model": "nope"}, 404, "`nope` does not exist"),
        ({"priority": 3}, 400, "--scheduling-policy priority"),
        ({"cache_salt": ""}, 400, "cache_salt"),
        ({"max_tokens": 10**9}, 400, "maximum context length is"),
        ({"continue_final_message": True}, 400, "add_generation_prompt"),
        ({"continue_final_message": True, "add_generation_prompt": False}, 400, "assistant"),
        ({"n": 2}, 400, "n must be 1"),
        ({"messages": []}, 400, "no messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "text only"),
        ({"tool_choice": "required"}, 400, "no tools"),
        ({"max_tokens": 0}, 400, "max_tokens"),
    ],
)
async def test_what_vllm_refuses_is_refused_in_its_shape(
    http: aiohttp.ClientSession,
    server: SimulatedEngineServer,
    fields: dict[str, Any],
    status: int,
    words: str,
) -> None:
    got, body = await ask(http, server, **fields)

    assert got == body["error"]["code"] == status
    assert words in body["error"]["message"]
    assert body["error"]["type"] == {400: "BadRequestError", 404: "NotFoundError"}[status]


async def test_a_priority_is_taken_where_the_policy_knows_it(http: aiohttp.ClientSession) -> None:
    async with running_simulated_engines(1, scheduling_policy="priority") as [server]:
        await answer_to(http, server, priority=3)


async def test_only_the_key_opens_an_engine_that_has_one(http: aiohttp.ClientSession) -> None:
    async with running_simulated_engines(1, api_key="right") as [server]:
        refused, _ = await ask(http, server)
        headers = {"Authorization": "Bearer right"}
        async with http.get(f"{server.url}/models", headers=headers) as response:
            assert (refused, response.status) == (401, 200)


async def test_metrics_have_vllms_names_and_the_exact_counts(
    http: aiohttp.ClientSession, server: SimulatedEngineServer
) -> None:
    usage = (await answer_to(http, server))["usage"]
    async with http.get(server.url.removesuffix("/v1") + "/metrics") as response:
        text = await response.text()

    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    labels = '{engine="0",model_name="simulated-llama-8b"}'
    assert float(values[f"vllm:prompt_tokens_total{labels}"]) == usage["prompt_tokens"]
    assert float(values[f"vllm:generation_tokens_total{labels}"]) == usage["completion_tokens"]
    assert float(values[f"vllm:prefix_cache_queries_total{labels}"]) == usage["prompt_tokens"]
    for gauge in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert float(values[f"vllm:{gauge}{labels}"]) == 0
    assert float(values[f"vllm:time_to_first_token_seconds_count{labels}"]) == 1
    assert float(values[f"vllm:inter_token_latency_seconds_count{labels}"]) == 19


async def test_simulated_latency_is_the_rooflines(
    http: aiohttp.ClientSession, server: SimulatedEngineServer
) -> None:
    await answer_to(http, server, max_tokens=101)
    steps = server.engine.simulation.steps
    roofline = server.engine.options.roofline()

    step_s = roofline.step_seconds([(50, 1)])
    assert steps == 101
    async with http.get(server.url.removesuffix("/v1") + "/metrics") as response:
        lines = (await response.text()).splitlines()
    [total] = [line for line in lines if line.startswith("vllm:inter_token_latency_seconds_sum")]
    assert float(total.rsplit(" ", 1)[1]) == pytest.approx(100 * step_s, rel=0.02)


async def test_a_client_that_goes_away_frees_its_kv_cache_and_its_tokens_stay_counted(
    http: aiohttp.ClientSession,
) -> None:
    async with running_simulated_engines(1, speed=1.0) as [server]:
        body = {"messages": QUESTION, "max_tokens": 5000, "ignore_eos": True, "stream": True}
        response = await http.post(f"{server.url}/chat/completions", json=body)
        await response.content.readline()
        await until(lambda: server.engine.simulation.running == 1)
        response.close()
        await until(lambda: server.engine.simulation.aborted == 1)

        done = server.engine.simulation
        [record] = server.engine.records
        assert (done.running, done.kv_blocks_used) == (0, 0)
        assert record.ended == "aborted"
        assert 0 < done.generated < 5000
        assert (record.generated_tokens, record.computed_tokens) == (done.generated, done.prompt_computed)
        assert record.delivered_tokens <= record.generated_tokens


async def test_a_prompt_prefilled_elsewhere_is_fetched_instead_of_computed(
    http: aiohttp.ClientSession,
) -> None:
    long = [{"role": "user", "content": "word " * 500}]
    async with running_simulated_engines(2, kv_role="both") as [prefill, decode]:
        ask_prefill = {"do_remote_decode": True, "do_remote_prefill": False}
        first = await answer_to(http, prefill, messages=long, max_tokens=1, kv_transfer_params=ask_prefill)
        assert prefill.engine.simulation.transfers_held == 1

        place = first["kv_transfer_params"]
        whole = await answer_to(http, decode, messages=long, kv_transfer_params=place)

        prompt = first["usage"]["prompt_tokens"]
        assert len(place["remote_block_ids"]) == -(-prompt // BLOCK_TOKENS)
        assert decode.engine.simulation.prompt_transferred == prompt - 1
        assert decode.engine.simulation.prompt_computed == 1
        assert whole["usage"]["prompt_tokens_details"]["cached_tokens"] == prompt - 1
        assert text_of(whole).startswith(text_of(first))
        await until(lambda: prefill.engine.simulation.kv_blocks_used == 0)
        assert prefill.engine.simulation.transfers_expired == 0


async def test_a_decode_engine_computes_what_no_prefill_engine_holds_any_more(
    http: aiohttp.ClientSession,
) -> None:
    async with running_simulated_engines(2, kv_role="both", limits=Limits(hold_s=0.0)) as [prefill, decode]:
        asked = {"do_remote_decode": True}
        first = await answer_to(http, prefill, max_tokens=1, kv_transfer_params=asked)
        await until(lambda: prefill.engine.simulation.transfers_expired == 1)

        await answer_to(http, decode, kv_transfer_params=first["kv_transfer_params"])

        assert decode.engine.simulation.prompt_transferred == 0
        assert decode.engine.simulation.prompt_computed == first["usage"]["prompt_tokens"]
        assert prefill.engine.simulation.kv_blocks_used == 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Refuse(status=429, retry_after_s=7), Overloaded),
        (Refuse(status=503, retry_after_s=7), Overloaded),
        (Refuse(status=503), EngineUnavailable),
        (Refuse(status=500), EngineFailed),
        (Drop(), EngineUnavailable),
        (Drop(after_tokens=0), EngineFailed),
        (Drop(after_tokens=5), EngineFailed),
        (Garbage(after_tokens=5), EngineFailed),
        (ErrorEvent(after_tokens=5), EngineFailed),
        (CloseListener(seconds=60), EngineUnavailable),
    ],
)
async def test_a_fault_is_what_the_gateways_engine_takes_it_for(
    server: SimulatedEngineServer, fault: Fault, error: type[Exception]
) -> None:
    whole = await read_all(server, completion())
    await set_faults(server.control_url, fault)

    with pytest.raises(error) as raised:
        await read_all(server, completion())
    await set_faults(server.control_url)
    if not isinstance(fault, CloseListener):
        assert await read_all(server, completion()) == whole

    if isinstance(raised.value, Overloaded):
        assert raised.value.retry_after_s == 7


@pytest.mark.parametrize("fault", [Hang(), Hang(after_tokens=0), Hang(after_tokens=3)])
async def test_an_engine_that_hangs_sends_no_more_and_computes_no_more(
    http: aiohttp.ClientSession, server: SimulatedEngineServer, fault: Hang
) -> None:
    server.faults.set(FaultPlan(faults=[fault]))
    body = {"messages": QUESTION, "max_tokens": 50, "stream": True}
    asking = asyncio.ensure_future(http.post(f"{server.url}/chat/completions", json=body))
    if fault.after_tokens is None:
        await asyncio.wait([asking], timeout=0.2)
        assert not asking.done()
        asking.cancel()
        return
    response = await asking
    events = 1 + fault.after_tokens
    for _ in range(2 * events):
        await asyncio.wait_for(response.content.readline(), WITHIN_S)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(response.content.readline(), 0.2)
    response.close()
    await until(lambda: server.engine.simulation.aborted == 1)
    assert server.engine.records[0].delivered_tokens == fault.after_tokens
    assert server.engine.simulation.kv_blocks_used == 0


async def test_a_fault_strikes_as_many_requests_as_it_says(server: SimulatedEngineServer) -> None:
    await set_faults(server.control_url, Refuse(status=500, count=2))

    for _ in range(2):
        with pytest.raises(EngineFailed):
            await read_all(server, completion())
    await read_all(server, completion())

    assert [struck.struck for struck in server.faults.state.faults] == [2]


async def test_the_seed_decides_which_requests_a_likely_fault_strikes(server: SimulatedEngineServer) -> None:
    plan = FaultPlan(faults=[Refuse(probability=0.3)], seed=11)

    def drawn() -> list[bool]:
        server.faults.set(plan)
        return [server.faults.draw() is not None for _ in range(1000)]

    first = drawn()
    assert drawn() == first
    assert 250 < sum(first) < 350


async def test_a_slow_engine_takes_longer_in_its_own_time(
    http: aiohttp.ClientSession, server: SimulatedEngineServer
) -> None:
    clock = server.engine.simulation
    server.faults.set(FaultPlan(faults=[Slow(factor=1000)]))

    await answer_to(http, server, max_tokens=50)

    assert server.engine.simulation.simulated_s - clock.simulated_s > 50 * 1000 * 0.005


async def test_a_fault_that_does_not_exist_is_refused(
    http: aiohttp.ClientSession, server: SimulatedEngineServer
) -> None:
    plan = {"faults": [{"kind": "earthquake"}]}
    async with http.post(f"{server.control_url}/faults", json=plan) as response:
        assert response.status == 400
        assert "earthquake" in (await response.json())["error"]["message"]


async def test_a_closed_listener_opens_again_and_the_control_address_stays_open(
    server: SimulatedEngineServer,
) -> None:
    await set_faults(server.control_url, CloseListener(seconds=0.1, count=1))
    with pytest.raises(EngineUnavailable):
        await read_all(server, completion())

    assert (await simulation_of(server.control_url)).simulated
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                assert await read_all(server, completion())
                break
            except EngineUnavailable:
                await asyncio.sleep(0.01)


async def test_a_thousand_streams_at_once_all_end_well_with_exact_counts(
    server: SimulatedEngineServer,
) -> None:
    texts = await asyncio.gather(
        *(read_all(server, completion(f"Number {number}.", most=20)) for number in range(1000))
    )

    done = server.engine.simulation
    assert all(texts)
    assert (done.finished, done.generated, done.delivered) == (1000, 20_000, 20_000)
    assert done.kv_blocks_used == 0


async def test_the_command_prints_its_addresses_and_takes_faults(http: aiohttp.ClientSession) -> None:
    fault = msgspec.json.encode(Refuse(status=500, count=1)).decode()
    with simulated_engine_process("--gpu", "b200", "--model", "llama-70b", "--fault", fault) as process:
        async with http.get(f"{process.url}/models") as response:
            card = (await response.json())["data"][0]
        async with http.post(f"{process.url}/chat/completions", json={"messages": QUESTION}) as response:
            assert response.status == 500
        simulation = await simulation_of(process.control_url)

    assert card["id"] == simulation.model == "simulated-llama-70b"
    assert simulation.gpu == "b200"


async def test_a_dropped_connection_is_reset_behind_exactly_the_tokens_it_was_to_send(
    http: aiohttp.ClientSession,
) -> None:
    """In a process of its own, because its event loop is another one."""
    with simulated_engine_process() as process:
        await set_faults(process.control_url, Drop(after_tokens=5))
        body = {"messages": QUESTION, "max_tokens": 50, "stream": True}
        lines: list[bytes] = []

        async def read() -> None:
            async with http.post(f"{process.url}/chat/completions", json=body) as response:
                while line := await response.content.readline():
                    lines.append(line)

        with pytest.raises(aiohttp.ClientError):
            await read()
        [record] = await records_of(process.control_url)

    assert sum(line.startswith(b"data: ") for line in lines) == 1 + 5
    assert (record.ended, record.delivered_tokens) == ("aborted", 5)


async def embed(
    http: aiohttp.ClientSession, server: SimulatedEngineServer, *texts: str
) -> tuple[int, dict[str, Any]]:
    async with http.post(f"{server.url}/embeddings", json={"input": list(texts)}) as response:
        return response.status, await response.json()


async def test_an_embedding_costs_the_reading_of_its_inputs_and_no_token(
    server: SimulatedEngineServer, http: aiohttp.ClientSession
) -> None:
    status, answer = await embed(http, server, "one two three", "four")

    told = server.engine.simulation
    assert status == 200
    assert [each["index"] for each in answer["data"]] == [0, 1]
    assert answer["usage"]["prompt_tokens"] == told.prompt_computed == 4
    assert (told.generated, told.finished, told.running) == (0, 2, 0)
    assert told.simulated_s > 0


async def test_the_same_text_has_the_same_vector_at_every_engine(http: aiohttp.ClientSession) -> None:
    async with running_simulated_engines(2) as servers:
        answers = [(await embed(http, each, "the sea"))[1]["data"] for each in servers]
    assert answers[0] == answers[1]


async def test_an_embedding_that_nobody_waits_for_is_given_up(http: aiohttp.ClientSession) -> None:
    async with running_simulated_engines(1, speed=1.0) as [server]:
        server.faults.set(FaultPlan(faults=[Slow(factor=20)]))
        asking = asyncio.create_task(embed(http, server, "a text " * 500, "another"))
        await until(lambda: server.engine.simulation.running >= 1)
        asking.cancel()
        await until(lambda: server.engine.simulation.aborted == 2)
        assert server.engine.simulation.running == 0


@pytest.mark.parametrize("bad", [[], [""], "", 7, ["a", 1]])
async def test_inputs_that_cannot_be_embedded_are_refused(
    bad: Any, server: SimulatedEngineServer, http: aiohttp.ClientSession
) -> None:
    async with http.post(f"{server.url}/embeddings", json={"input": bad}) as response:
        assert response.status == 400
