"""Server-sent events: heartbeats in silence, an end when the client goes, the work behind it closed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from litestar import Request

from triplane.orchestration.bff.event_stream import EventStream


class Frames:
    """Gives frames from a queue; `None` ends them."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(10)
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (frame := await self.queue.get()) is not None:
            yield frame

    async def aclose(self) -> None:
        self.closed.set()


class Client:
    """The ASGI server's side of one response."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue(100)
        self.hang_up = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.sent.put(message)

    async def next_body(self) -> bytes:
        async with asyncio.timeout(5):
            while (message := await self.sent.get())["type"] != "http.response.body":
                pass
        return cast(bytes, message["body"])


def response(
    frames: Frames,
    client: Client,
    heartbeat_s: float = 10,
    leaving: "asyncio.Future[None] | None" = None,
) -> asyncio.Task[None]:
    stream = EventStream(aiter(frames), closing=frames, leaving=leaving, heartbeat_s=heartbeat_s)
    return asyncio.create_task(run(stream, client))


async def run(stream: EventStream, client: Client) -> None:
    sender: Any = stream.to_asgi_response(cast("Request[Any, Any, Any]", None))
    await sender({}, client.receive, client.send)


async def test_frames_are_sent_as_they_come_and_the_response_ends_with_them() -> None:
    frames, client = Frames(), Client()
    task = response(frames, client)
    await frames.queue.put(b"data: 1\n\n")
    assert await client.next_body() == b"data: 1\n\n"
    await frames.queue.put(None)
    await asyncio.wait_for(task, 5)
    assert frames.closed.is_set()


async def test_silence_is_filled_with_heartbeats() -> None:
    frames, client = Frames(), Client()
    task = response(frames, client, heartbeat_s=0.02)
    assert await client.next_body() == b": ping\n"
    assert await client.next_body() == b": ping\n"
    await frames.queue.put(None)
    await asyncio.wait_for(task, 5)


async def test_a_client_that_hangs_up_closes_the_work_behind_at_once() -> None:
    frames, client = Frames(), Client()
    task = response(frames, client)
    client.hang_up.set()
    await asyncio.wait_for(task, 5)
    assert frames.closed.is_set()


async def test_a_stream_that_is_followed_elsewhere_ends_whole_when_the_process_leaves() -> None:
    frames, client = Frames(), Client()
    leaving = asyncio.get_running_loop().create_future()
    task = response(frames, client, leaving=leaving)
    await frames.queue.put(b"data: 1\n\n")
    assert await client.next_body() == b"data: 1\n\n"
    leaving.set_result(None)
    await asyncio.wait_for(task, 5)
    end = client.sent.get_nowait()
    assert (end["body"], end["more_body"]) == (b"", False)
    assert frames.closed.is_set()


async def test_a_bug_in_the_frames_rises_and_closes_the_work() -> None:
    frames, client = Frames(), Client()

    async def broken() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        raise ZeroDivisionError

    stream = EventStream(broken(), closing=frames)
    with pytest.raises(ZeroDivisionError):
        await run(stream, client)
    assert frames.closed.is_set()


async def test_nothing_in_between_may_keep_back_the_stream() -> None:
    frames, client = Frames(), Client()
    await frames.queue.put(None)
    await response(frames, client)
    headers = dict((await client.sent.get())["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"x-accel-buffering"] == b"no"
    assert b"no-transform" in headers[b"cache-control"]
