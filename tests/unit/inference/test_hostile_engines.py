"""Engines that misbehave, played by a real HTTP server on loopback."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import msgspec
import pytest
from aiohttp import web

from gateways import gateway_of
from triplane.domain.completion import CompletionRequest, Message, ModelCard
from triplane.domain.errors import (
    ContextTooLong,
    EngineFailed,
    EngineUnavailable,
    FirstTokenTimeout,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    TriplaneError,
)
from triplane.domain.events import Delta, EngineEvent, Failed, Finished, FinishReason, ToolCallDelta, Usage
from triplane.domain.money import EngineCall
from triplane.inference.engines.openai_http import OpenAIEngine
from triplane.inference.gateway import Gateway
from triplane.inference.observer import CallObserver, SilentObserver
from triplane.inference.timeouts import Timeouts
from upstream import Handler, Upstream, answers, streams, upstream

QUICK = Timeouts(first_token_s=0.2, inter_token_s=0.2, total_s=5)
REQUEST = CompletionRequest(request_id="req_test", model="m", messages=[Message(role="user", content="Hi")])


def chunk(text: str) -> bytes:
    return (
        b"data: "
        + msgspec.json.encode({"model": "served", "choices": [{"delta": {"content": text}}]})
        + b"\n\n"
    )


END = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"


class Recorder(SilentObserver):
    """Notes what the gateway measures."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.began = asyncio.Event()
        self.first_tokens: list[float] = []
        self.gaps: list[float] = []
        self.ends: list[tuple[Usage, FinishReason | None, str | None]] = []

    def begin(self, *, model: str, route: str, replica: str, plan: str) -> CallObserver:
        self.in_flight += 1
        return self

    def first_token(self, ttft_s: float) -> None:
        self.first_tokens.append(ttft_s)
        self.began.set()

    def inter_token(self, gap_s: float) -> None:
        self.gaps.append(gap_s)

    def ended(self, call: EngineCall, reason: FinishReason | None, error_code: str | None) -> None:
        self.in_flight -= 1
        self.ends.append((call.usage, reason, error_code))


@asynccontextmanager
async def gateway_to(
    handler: Handler, recorder: Recorder | None = None
) -> AsyncIterator[tuple[Gateway, Upstream]]:
    card = ModelCard(id="m", context_length=100, owned_by="test")
    async with upstream({"/v1/chat/completions": handler}) as server:
        engine = OpenAIEngine(server.url, card, name="fake", api_key="k", engine_model="served")
        gateway = gateway_of(engine, timeouts=QUICK, observer=recorder)
        try:
            yield gateway, server
        finally:
            await gateway.close()


async def run(gateway: Gateway) -> list[EngineEvent]:
    async with aclosing(await gateway.complete(REQUEST)) as completion:
        return [event async for event in completion]


async def test_what_came_unread_when_a_stream_is_closed_is_on_the_bill() -> None:
    go_on, written = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk("a"))
        await go_on.wait()
        await response.write(chunk("b") + chunk("c"))
        written.set()
        await asyncio.Event().wait()
        return response

    async with gateway_to(handle) as (gateway, _):
        completion = await gateway.complete(REQUEST)
        async for event in completion:
            if isinstance(event, Delta):
                break
        go_on.set()
        await written.wait()
        with suppress(EngineUnavailable):
            await gateway.check()  # an exchange later, what was written has come
        await completion.aclose()
    assert completion.usage.completion_tokens == 3


def texts(events: list[EngineEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Delta)]


async def test_a_whole_answer_is_relayed_and_measured() -> None:
    recorder = Recorder()
    async with gateway_to(streams(chunk("a"), chunk("b"), END, USAGE, DONE), recorder) as (gateway, server):
        events = await run(gateway)

    usage = Usage(prompt_tokens=7, completion_tokens=2)
    assert texts(events) == ["a", "b"]
    assert events[-1] == Finished(reason="stop", usage=usage)
    assert recorder.ends == [(usage, "stop", None)]
    assert (len(recorder.first_tokens), len(recorder.gaps), recorder.in_flight) == (1, 1, 0)
    assert server.requests[0].headers["Authorization"] == "Bearer k"


async def test_an_answer_may_end_without_done() -> None:
    async with gateway_to(streams(chunk("a"), END)) as (gateway, _):
        events = await run(gateway)

    assert events[-1] == Finished(reason="stop", usage=Usage(completion_tokens=1))


async def test_the_connection_is_used_again() -> None:
    async with gateway_to(streams(chunk("a"), END, DONE)) as (gateway, server):
        for _ in range(3):
            await run(gateway)

        peers = {
            request.transport.get_extra_info("peername") for request in server.requests if request.transport
        }

    assert len(server.requests) == 3
    assert len(peers) <= 1


async def test_a_stale_connection_is_replaced_without_an_error() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = await streams(chunk("a"), END, DONE)(request)
        await response.write_eof()
        if request.transport:
            request.transport.close()
        return response

    async with gateway_to(handle) as (gateway, server):
        for _ in range(3):
            assert texts(await run(gateway)) == ["a"]

    assert len(server.requests) == 3


async def test_an_engine_that_never_answers_is_given_up() -> None:
    recorder = Recorder()

    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with gateway_to(hang, recorder) as (gateway, server):
        with pytest.raises(FirstTokenTimeout):
            await gateway.complete(REQUEST)
        await asyncio.wait_for(server.hung_up.wait(), 2)

    assert recorder.ends == [(Usage(), None, "first_token_timeout")]


async def test_no_first_token_behind_the_headers_fails() -> None:
    async with gateway_to(streams(then_hangs=True)) as (gateway, server):
        events = await run(gateway)
        await asyncio.wait_for(server.hung_up.wait(), 2)

    assert isinstance(events[-1], Failed)
    assert events[-1].code == "first_token_timeout"


async def test_tokens_that_stop_coming_fail_the_stream_and_keep_the_count() -> None:
    async with gateway_to(streams(chunk("a"), chunk("b"), then_hangs=True)) as (gateway, server):
        events = await run(gateway)
        await asyncio.wait_for(server.hung_up.wait(), 2)

    assert texts(events) == ["a", "b"]
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "stream_stalled"
    assert events[-1].usage == Usage(completion_tokens=2)


async def test_a_caller_that_is_slow_is_no_stalled_engine() -> None:
    async with (
        gateway_to(streams(chunk("a"), chunk("b"), END, DONE)) as (gateway, _),
        aclosing(await gateway.complete(REQUEST)) as completion,
    ):
        events = [await anext(completion), await anext(completion)]
        await asyncio.sleep(QUICK.inter_token_s * 1.5)
        events += [event async for event in completion]

    assert isinstance(events[-1], Finished)


async def test_a_dropped_connection_fails_the_stream_after_its_text() -> None:
    async with gateway_to(streams(chunk("a"), then_drops=True)) as (gateway, _):
        events = await run(gateway)

    assert texts(events) in (["a"], [])
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "engine_failed"


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {nonsense\n\n",
        b"data: [1, 2]\n\n",
        b'data: {"choices": "x"}\n\n',
        b"data: \xff\xfe\n\n",
        b"<html>Bad gateway</html>",
        DONE,
    ],
)
async def test_garbage_fails_the_stream_after_its_text(garbage: bytes) -> None:
    async with gateway_to(streams(chunk("a") + garbage)) as (gateway, _):
        events = await run(gateway)

    assert texts(events) == ["a"]
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "engine_failed"


@pytest.mark.parametrize("error", [b'{"message": "boom", "code": 500}', b'"boom"'])
async def test_an_error_inside_the_stream_fails_it_after_its_text(error: bytes) -> None:
    async with gateway_to(streams(chunk("a") + b'data: {"error": ' + error + b"}\n\n")) as (gateway, _):
        events = await run(gateway)

    assert texts(events) == ["a"]
    assert isinstance(events[-1], Failed)


async def test_a_tool_call_without_an_id_gets_one() -> None:
    call = b'{"index": 0, "function": {"name": "f", "arguments": "{}"}}'
    piece = b'data: {"choices": [{"delta": {"tool_calls": [' + call + b"]}}]}\n\n"
    async with gateway_to(streams(piece, END, DONE)) as (gateway, _):
        events = await run(gateway)

    assert isinstance(events[1], ToolCallDelta)
    assert events[1].id
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "tool_calls"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error": {"message": "no", "param": "temperature"}}', InvalidRequest),
        (400, b'{"message": "This model\'s maximum context length is 100 tokens."}', ContextTooLong),
        (
            400,
            b'{"message": "It is longer than the model\'s context length."}',
            ContextTooLong,
        ),
        (400, b'{"error": {"message": "request exceeds the available context size"}}', ContextTooLong),
        (400, b'{"error": {"message": "long", "code": "context_length_exceeded"}}', ContextTooLong),
        (401, b"", EngineUnavailable),
        (404, b'{"error": {"message": "The model `x` does not exist"}}', ModelNotFound),
        (404, b"<html>", EngineUnavailable),
        (422, b'{"detail": [{"loc": ["body"]}]}', InvalidRequest),
        (429, b"", Overloaded),
        (500, b"\xff", EngineFailed),
        (302, b"", EngineFailed),
        (503, b'{"error": {"message": "Loading model"}}', EngineUnavailable),
    ],
)
async def test_a_refusal_is_raised_before_anything_is_streamed(
    status: int, body: bytes, kind: type[TriplaneError]
) -> None:
    async with gateway_to(answers(status, body)) as (gateway, _):
        with pytest.raises(kind):
            await gateway.complete(REQUEST)


@pytest.mark.parametrize(
    ("status", "said", "meant"),
    [(429, "7", 7.0), (503, "3", 3.0), (429, "soon", 2.0), (429, "9" * 400, 3600.0)],
)
async def test_a_busy_engine_says_when_to_come_back(status: int, said: str, meant: float) -> None:
    async with gateway_to(answers(status, b"", **{"Retry-After": said})) as (gateway, _):
        with pytest.raises(Overloaded) as busy:
            await gateway.complete(REQUEST)

    assert busy.value.retry_after_s == meant


async def test_an_address_where_nothing_listens_is_unavailable() -> None:
    card = ModelCard(id="m", context_length=100, owned_by="test")
    gateway = gateway_of(OpenAIEngine("http://127.0.0.1:9/v1", card))

    with pytest.raises(EngineUnavailable, match="can't be reached"):
        await gateway.complete(REQUEST)

    await gateway.close()


async def test_closing_hangs_up_on_the_engine_and_counts_what_came() -> None:
    recorder = Recorder()
    async with gateway_to(streams(chunk("a"), then_hangs=True), recorder) as (gateway, server):
        completion = await gateway.complete(REQUEST)
        waiting = asyncio.create_task(_all(completion))
        await asyncio.wait_for(recorder.began.wait(), 2)
        await completion.aclose()
        assert texts(await waiting) == ["a"]
        await asyncio.wait_for(server.hung_up.wait(), 2)

    assert recorder.ends == [(Usage(completion_tokens=1), None, None)]


async def _all(completion: AsyncIterable[EngineEvent]) -> list[EngineEvent]:
    return [event async for event in completion]
