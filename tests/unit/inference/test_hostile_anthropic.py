"""The Messages engine against a server that speaks the API well, and one that misbehaves."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from gateways import gateway_of
from triplane.domain.completion import CompletionRequest, Message, ModelCard
from triplane.domain.errors import (
    ContextTooLong,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    TriplaneError,
)
from triplane.domain.events import Delta, EngineEvent, Failed, Finished, Started, Usage
from triplane.inference.engines.anthropic_http import AnthropicEngine
from triplane.inference.timeouts import Timeouts
from upstream import Handler, Upstream, answers, streams, upstream

PATH = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
QUICK = Timeouts(first_token_s=0.2, inter_token_s=0.2, total_s=5)
REQUEST = CompletionRequest(request_id="req_1", model="m", messages=[Message(role="user", content="Hi")])


def frame(data: str) -> bytes:
    return f"event: x\ndata: {data}\n\n".encode()


START = frame(
    '{"type":"message_start","message":{"model":"claude-1","usage":{"input_tokens":7,"output_tokens":1}}}'
)
TEXT = frame('{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}')
END = frame('{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}')
STOP = frame('{"type":"message_stop"}')
PING = frame('{"type":"ping"}')


def error(kind: str, message: str = "no") -> bytes:
    text = f'{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"req_x"}}'
    return text.encode()


@asynccontextmanager
async def engine_to(handlers: dict[str, Handler]) -> AsyncIterator[tuple[AnthropicEngine, Upstream]]:
    card = ModelCard(id="m", context_length=100, owned_by="test", supports_continuation=True)
    async with upstream(handlers) as server:
        engine = AnthropicEngine(server.url, card, api_key="secret-key", engine_model="claude")
        try:
            yield engine, server
        finally:
            await engine.close()


async def run(engine: AnthropicEngine, request: CompletionRequest = REQUEST) -> list[EngineEvent]:
    gateway = gateway_of(engine, timeouts=QUICK)
    async with aclosing(await gateway.complete(request)) as completion:
        return [event async for event in completion]


def text_in(events: list[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def test_a_whole_answer_is_relayed_with_its_counts() -> None:
    async with engine_to({PATH: streams(START, PING, TEXT, PING, END, STOP)}) as (engine, server):
        events = await run(engine)

    usage = Usage(prompt_tokens=7, completion_tokens=2)
    assert isinstance(events[0], Started)
    assert text_in(events) == "a"
    assert events[-1] == Finished(reason="stop", usage=usage)
    headers = server.requests[0].headers
    assert headers["x-api-key"] == "secret-key"
    assert headers["anthropic-version"] == "2023-06-01"
    assert "Authorization" not in headers
    [body] = server.bodies(PATH)
    assert (body["model"], body["stream"], body["max_tokens"]) == ("claude", True, 4096)


async def test_the_connection_is_used_again() -> None:
    async with engine_to({PATH: streams(START, TEXT, END, STOP)}) as (engine, server):
        ports = set()
        for _ in range(3):
            await run(engine)
            transport = server.requests[-1].transport
            ports.add(transport.get_extra_info("peername") if transport else None)

    assert len(ports) == 1


async def test_a_continued_answer_shows_whitespace_once() -> None:
    continued = CompletionRequest(
        request_id="req_1",
        model="m",
        messages=[*REQUEST.messages, Message(role="assistant", content="Once ")],
        continue_final_message=True,
    )
    piece = TEXT.replace(b'"a"', b'" upon"')
    async with engine_to({PATH: streams(START, piece, END, STOP)}) as (engine, server):
        events = await run(engine, continued)

    assert text_in(events) == "upon"
    [body] = server.bodies(PATH)
    assert body["messages"][-1]["content"][0]["text"] == "Once"


async def test_a_model_that_can_not_continue_is_not_asked_to() -> None:
    card = ModelCard(id="m", context_length=100, owned_by="test")
    engine = AnthropicEngine("http://127.0.0.1:9/v1", card)
    continued = CompletionRequest(
        request_id="req_1",
        model="m",
        messages=[*REQUEST.messages, Message(role="assistant", content="Once")],
        continue_final_message=True,
    )

    with pytest.raises(InvalidRequest, match="can't continue"):
        await engine.start(continued, {})


@pytest.mark.parametrize(
    "broken",
    [
        frame("{nonsense"),
        frame("[1]"),
        frame('{"index":0}'),
        frame('{"type":"content_block_delta","index":"x"}'),
        frame(
            '{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{"}}'
        ),
        b"data: \xff\xfe\n\n",
        b"<html>Bad gateway</html>",
        STOP,
        frame(error("api_error").decode()),
        frame('{"type":"error","error":"boom"}'),
    ],
)
async def test_garbage_or_an_error_fails_the_stream_after_its_text(broken: bytes) -> None:
    async with engine_to({PATH: streams(START + TEXT + broken)}) as (engine, _):
        events = await run(engine)

    assert text_in(events) == "a"
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "engine_failed"


async def test_an_overload_inside_the_stream_may_be_tried_again() -> None:
    overloaded = frame(error("overloaded_error").decode())
    async with engine_to({PATH: streams(START, TEXT, overloaded)}) as (engine, _):
        events = await run(engine)

    assert isinstance(events[-1], Failed)
    assert (events[-1].code, events[-1].retryable) == ("overloaded", True)
    assert events[-1].usage == Usage(prompt_tokens=7, completion_tokens=1)


async def test_pings_alone_are_no_first_token() -> None:
    async with engine_to({PATH: streams(START, PING, PING, then_hangs=True)}) as (engine, server):
        events = await run(engine)
        await server.hung_up.wait()

    assert isinstance(events[-1], Failed)
    assert events[-1].code == "first_token_timeout"


async def test_a_stream_that_hangs_is_given_up_and_hung_up_on() -> None:
    async with engine_to({PATH: streams(START, TEXT, then_hangs=True)}) as (engine, server):
        events = await run(engine)
        await server.hung_up.wait()

    assert isinstance(events[-1], Failed)
    assert events[-1].code == "stream_stalled"
    assert events[-1].usage == Usage(prompt_tokens=7, completion_tokens=1)


async def test_a_dropped_connection_fails_the_stream() -> None:
    async with engine_to({PATH: streams(START, TEXT, then_drops=True)}) as (engine, _):
        events = await run(engine)

    assert isinstance(events[-1], Failed)
    assert events[-1].code == "engine_failed"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, error("invalid_request_error", "messages: bad"), InvalidRequest),
        (400, error("invalid_request_error", "prompt is too long: 9 tokens > 5 maximum"), ContextTooLong),
        (
            400,
            error("invalid_request_error", "input length and `max_tokens` exceed context limit: 9 + 9 > 10"),
            ContextTooLong,
        ),
        (400, error("invalid_request_error", "Your credit balance is too low"), EngineUnavailable),
        (401, error("authentication_error", "invalid x-api-key"), EngineUnavailable),
        (402, error("billing_error"), EngineUnavailable),
        (403, error("permission_error"), EngineUnavailable),
        (404, error("not_found_error", "model: claude-nope"), ModelNotFound),
        (404, b"<html>", EngineUnavailable),
        (413, error("request_too_large"), InvalidRequest),
        (429, error("rate_limit_error"), Overloaded),
        (500, error("api_error"), EngineFailed),
        (504, error("timeout_error"), EngineFailed),
        (529, error("overloaded_error"), Overloaded),
        (500, b"\xff", EngineFailed),
        (302, b"", EngineFailed),
    ],
)
async def test_a_refusal_is_raised_before_anything_is_streamed(
    status: int, body: bytes, kind: type[TriplaneError]
) -> None:
    async with engine_to({PATH: answers(status, body)}) as (engine, _):
        with pytest.raises(kind) as refused:
            await run(engine)

    assert type(refused.value) is kind
    assert "secret-key" not in refused.value.message
    assert "credit balance" not in refused.value.message


@pytest.mark.parametrize(("status", "said", "meant"), [(429, "7", 7.0), (529, "3", 3.0), (529, "", 2.0)])
async def test_a_busy_engine_says_when_to_come_back(status: int, said: str, meant: float) -> None:
    async with engine_to({PATH: answers(status, b"", Retry_After=said)}) as (engine, _):
        with pytest.raises(Overloaded) as busy:
            await run(engine)

    assert busy.value.retry_after_s == meant


async def test_an_address_where_nothing_listens_is_unavailable() -> None:
    engine = AnthropicEngine("http://127.0.0.1:9/v1", ModelCard(id="m", context_length=100, owned_by="test"))

    with pytest.raises(EngineUnavailable):
        await engine.start(REQUEST, {})
    with pytest.raises(EngineUnavailable):
        await engine.check()
    assert await engine.load() is None
    await engine.close()


async def test_long_texts_are_counted_by_the_vendor_once_and_short_ones_bounded() -> None:
    long = Message(role="system", content="word " * 100)
    async with engine_to({COUNT: answers(200, {"input_tokens": 107})}) as (engine, server):
        first = await engine.count_tokens([long, Message(role="user", content="Hi")])
        again = await engine.count_tokens([long])

    assert first == [107 + 8, 2 + 8]
    assert again == [115]
    assert len(server.bodies(COUNT)) == 1


@pytest.mark.parametrize("status", [404, 429])
async def test_without_a_count_the_bound_is_taken(status: int) -> None:
    async with engine_to({COUNT: answers(status)}) as (engine, _):
        assert await engine.count_tokens([Message(role="user", content="x" * 300)]) == [308]
