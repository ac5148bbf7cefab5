"""The terminal's client against a small server that speaks the wire, breaks off, and refuses."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from triplane.domain.errors import DependencyFailed, Overloaded, Unauthenticated
from triplane.experience.api_client import Event, read_events
from triplane.experience.chat_client import ChatClient


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def chunk(text: str, **more: Any) -> bytes:
    body = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


class Server:
    """Answers with the streams it is given, one for each request; remembers what was asked."""

    def __init__(self) -> None:
        self.streams: list[list[bytes]] = []
        self.asked: list[tuple[str, str]] = []
        self.status = 200
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0, after_s: float = 0) -> int:
        """Listen, on this port if it is given; which one that is."""
        await asyncio.sleep(after_s)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()
        listening: int = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{listening}"
        return listening

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, str(request.rel_url)))
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "small"}]})
        if self.status != 200:
            error = {"message": "Not like this.", "code": "invalid_api_key"}
            return web.json_response({"error": error}, status=self.status)
        if request.path.endswith("/stop"):
            return web.json_response({"id": "turn_1"}, status=202)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for part in self.streams.pop(0):
            await response.write(part)
        if request.transport is not None and not part.endswith(b"[DONE]\n\n"):
            request.transport.abort()
        return response


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


async def answer(client: ChatClient, text: str = "Hello?") -> list[str]:
    async with asyncio.timeout(20), client:
        return [piece async for piece in client.answer(text)]


async def test_events_are_read_whatever_the_pieces_and_heartbeats_are_skipped() -> None:
    wire = b': ping\n\nid: 7\ndata: {"a":1}\n\ndata: one\r\ndata: two\r\n\r\ndata: [DONE]\n\n'

    for size in (1, 3, len(wire)):
        pieces = [wire[at : at + size] for at in range(0, len(wire), size)]
        events = [event async for event in read_events(chunks(*pieces))]

        assert events == [Event("7", b'{"a":1}'), Event(None, b"one\ntwo"), Event(None, b"[DONE]")]


async def test_an_event_without_end_is_refused() -> None:
    with pytest.raises(DependencyFailed, match="too large"):
        _ = [event async for event in read_events(chunks(*[b"data: " + b"x" * 2**20] * 5))]


async def test_an_answer_comes_piece_by_piece_from_the_servers_first_model(server: Server) -> None:
    server.streams = [[chunk("Hel"), b": ping\n\n", chunk("lo"), b"data: [DONE]\n\n"]]

    assert await answer(ChatClient(server.url, "tp-key")) == ["Hel", "lo"]
    assert server.asked == [("GET", "/v1/models"), ("POST", "/v1/chat/completions")]


async def test_a_turn_that_breaks_off_goes_on_behind_the_last_event_seen(server: Server) -> None:
    turn = {"turn_id": "turn_1"}
    server.streams = [
        [b"id: 1\n" + chunk("", **turn), b"id: 2\n" + chunk("Hel", **turn)],
        [b"id: 3\n" + chunk("lo", **turn), b"data: [DONE]\n\n"],
    ]

    pieces = await answer(ChatClient(server.url, "tp-key", "small", conversation_id="conv_1"))

    assert pieces == ["Hel", "lo"]
    assert server.asked[-1] == ("GET", "/v1/turns/turn_1/events?after=2")


async def test_an_answer_survives_a_server_that_starts_again() -> None:
    turn, first, second = {"turn_id": "turn_1"}, Server(), Server()
    first.streams = [[b"id: 1\n" + chunk("Hel", **turn)]]
    second.streams = [[b"id: 2\n" + chunk("lo", **turn), b"data: [DONE]\n\n"]]
    port = await first.start()
    pieces: list[str] = []
    async with asyncio.timeout(20), ChatClient(first.url, "tp-key", "small", conversation_id="c") as client:
        async for piece in client.answer("Hello?"):
            if not pieces:
                await first.stop()
                restarting = asyncio.create_task(second.start(port, after_s=0.2))
            pieces.append(piece)
    await restarting
    await second.stop()

    assert pieces == ["Hel", "lo"]
    assert second.asked == [("GET", "/v1/turns/turn_1/events?after=1")]


async def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triplane.experience.chat_client._RECONNECT_WITHIN_S", 0.0)

    with pytest.raises(DependencyFailed, match="No server answers"):
        await answer(ChatClient("http://127.0.0.1:9", "tp-key", "small", conversation_id="conv_1"))


async def test_a_stateless_answer_that_breaks_off_is_an_error(server: Server) -> None:
    server.streams = [[chunk("Hel")]]

    with pytest.raises(DependencyFailed, match="broke off"):
        await answer(ChatClient(server.url, "tp-key", "small"))


async def test_an_error_within_the_stream_is_raised_as_what_it_is(server: Server) -> None:
    error = {"message": "The engine is busy.", "code": "overloaded"}
    server.streams = [[b"data: " + json.dumps({"error": error}).encode() + b"\n\n", b"data: [DONE]\n\n"]]

    with pytest.raises(Overloaded, match="The engine is busy"):
        await answer(ChatClient(server.url, "tp-key", "small"))


async def test_a_refused_key_is_an_error_of_its_own_kind(server: Server) -> None:
    server.status = 401

    with pytest.raises(Unauthenticated, match="Not like this"):
        await answer(ChatClient(server.url, "tp-wrong", "small"))


async def test_stopping_names_the_turn_that_runs(server: Server) -> None:
    server.streams = [[b"id: 1\n" + chunk("Hel", turn_id="turn_1"), b"data: [DONE]\n\n"]]
    client = ChatClient(server.url, "tp-key", "small", conversation_id="conv_1")

    async with client:
        async for _ in client.answer("Hello?"):
            await client.stop_answer()

    assert server.asked[-1] == ("POST", "/v1/turns/turn_1/stop")


async def test_no_server_is_said_with_what_to_do() -> None:
    with pytest.raises(DependencyFailed, match="triplane serve"):
        await answer(ChatClient("http://127.0.0.1:1", "tp-key", "small"))
