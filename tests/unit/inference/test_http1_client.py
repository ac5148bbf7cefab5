"""The HTTP/1.1 client of the engines, against servers that send what they like."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raw_server import RawServer, Talk, raw_server, read_request
from triplane.inference.http1 import (
    Client,
    ConnectFailed,
    Disconnected,
    InvalidResponse,
    Origin,
    Response,
    origin_of,
)
from triplane.inference.http1.connection import MAX_BARREN_BYTES, Connection
from triplane.inference.http1.response import MAX_UNREAD_BYTES

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def client_of(talk: Talk, **options: float) -> AsyncIterator[tuple[Client, RawServer]]:
    async with raw_server(talk) as server:
        client = Client(Origin("http", "127.0.0.1", server.port), {"x-fixed": "1"}, **options)  # type: ignore[arg-type]
        try:
            yield client, server
        finally:
            await client.close()


def says(*answers: bytes, then_closes: bool = False) -> Talk:
    """A talk that answers each request of a connection with the next of these."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()
        if not then_closes:
            await read_request(reader)

    return talk


async def get(client: Client) -> Response:
    return await asyncio.wait_for(client.request("GET", "/", {}), 5)


async def body_of(response: Response) -> bytes:
    body = b""
    while piece := await asyncio.wait_for(response.read(), 5):
        body += piece
    return body


async def test_a_request_arrives_as_it_was_meant() -> None:
    got: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await read_request(reader))
        writer.write(OK)

    async with client_of(talk) as (client, server):
        response = await client.request("POST", "/v1/x?y=1", {"traceparent": "00-1"}, b"{}")
        assert (response.status, await body_of(response)) == (200, b"hi")

    lines = got[0].split(b"\r\n")
    assert lines[0] == b"POST /v1/x?y=1 HTTP/1.1"
    assert set(lines[1:-2]) == {
        b"host: 127.0.0.1:%d" % server.port,
        b"accept-encoding: identity",
        b"x-fixed: 1",
        b"traceparent: 00-1",
        b"content-length: 2",
    }
    assert lines[-1] == b"{}"


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\rb", "a\0"])
async def test_a_header_can_not_become_two(value: str) -> None:
    async with client_of(says(OK)) as (client, server):
        with pytest.raises(ValueError, match="line break"):
            await client.request("GET", "/", {"x": value})

    assert server.connections == 0


async def test_a_kept_connection_serves_again() -> None:
    async with client_of(says(OK, OK, OK)) as (client, server):
        for _ in range(3):
            assert await body_of(await get(client)) == b"hi"

    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n\r\nhi",
    ],
)
async def test_a_connection_that_ends_is_not_kept(answer: bytes) -> None:
    async with client_of(says(answer, then_closes=True)) as (client, server):
        for _ in range(2):
            assert await body_of(await get(client)) == b"hi"

    assert server.connections == 2


async def test_a_stale_connection_is_replaced_once() -> None:
    async def closes_under_the_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await read_request(reader)

    async with client_of(closes_under_the_second) as (client, server):
        await body_of(await get(client))
        assert await body_of(await get(client)) == b"hi"

    assert server.connections == 2


async def test_a_new_connection_that_closes_without_an_answer_is_an_error() -> None:
    async with client_of(says(b"", then_closes=True)) as (client, server):
        with pytest.raises(Disconnected):
            await get(client)

    assert server.connections == 1


async def test_a_kept_connection_that_breaks_behind_the_first_byte_is_no_second_try() -> None:
    async with client_of(says(OK, b"HTTP/1.1 2", then_closes=True)) as (client, server):
        await body_of(await get(client))
        with pytest.raises(Disconnected):
            await get(client)

    assert server.connections == 1


async def test_nothing_listens() -> None:
    client = Client(Origin("http", "127.0.0.1", 9), {})

    with pytest.raises(ConnectFailed):
        await get(client)


async def test_what_came_before_a_break_is_given_first() -> None:
    async with client_of(says(CHUNKED + b"3\r\nabc\r\n", then_closes=True)) as (client, _):
        response = await get(client)
        assert await response.read() == b"abc"
        with pytest.raises(Disconnected):
            await response.read()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\nhi",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (10 * MAX_BARREN_BYTES),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    ],
)
async def test_what_is_no_clean_response_is_refused(answer: bytes) -> None:
    async with client_of(says(answer)) as (client, server):
        with pytest.raises(InvalidResponse):
            await get(client)
        await asyncio.wait_for(server.hung_up.wait(), 5)


@pytest.mark.parametrize(
    "rest",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"1\r\nab\r\n",
        b"0\r\nx: " + b"y" * (10 * MAX_BARREN_BYTES),
        b"1;" + b"x" * (10 * MAX_BARREN_BYTES) + b"\r\na\r\n",
    ],
)
async def test_nonsense_in_a_body_fails_it(rest: bytes) -> None:
    async with client_of(says(CHUNKED + b"1\r\na\r\n" + rest)) as (client, server):
        response = await get(client)
        with pytest.raises(InvalidResponse):
            await body_of(response)
        await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_a_connection_with_bytes_behind_its_response_is_not_kept() -> None:
    async with client_of(says(OK + OK, OK)) as (client, server):
        assert await body_of(await get(client)) == b"hi"
        assert await body_of(await get(client)) == b"hi"

    assert server.connections == 2


async def test_an_interim_response_is_passed_over() -> None:
    async with client_of(says(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK)) as (client, _):
        response = await get(client)

        assert (response.status, response.headers) == (200, {"content-length": "2"})
        assert await body_of(response) == b"hi"


async def test_aborting_hangs_up_and_wakes_the_reader() -> None:
    async with client_of(says(CHUNKED)) as (client, server):
        response = await get(client)
        reading = asyncio.ensure_future(response.read())
        await asyncio.sleep(0)
        response.abort()
        with pytest.raises(Disconnected):
            await reading
        await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_cancelling_a_request_hangs_up() -> None:
    arrived = asyncio.Event()

    async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await read_request(reader)

    async with client_of(never_answers) as (client, server):
        asking = asyncio.ensure_future(client.request("GET", "/", {}))
        await asyncio.wait_for(arrived.wait(), 5)
        asking.cancel()
        await asyncio.wait_for(server.hung_up.wait(), 5)
        await asyncio.wait((asking,))

    assert asking.cancelled()


async def test_a_reader_that_is_slow_stops_the_server() -> None:
    sent = 0
    stuck = asyncio.Event()

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(CHUNKED)
        block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        for _ in range(200):
            writer.write(block)
            try:
                await asyncio.wait_for(writer.drain(), 0.1)
            except TimeoutError:
                stuck.set()
                await writer.drain()
            sent += 65536
        writer.write(b"0\r\n\r\n")

    async with client_of(floods) as (client, _):
        response = await get(client)
        await asyncio.wait_for(stuck.wait(), 5)
        first = await response.read()
        rest = await body_of(response)

    assert len(first) <= MAX_UNREAD_BYTES + 256 * 1024
    assert len(first) + len(rest) == sent == 200 * 65536


async def test_requests_wait_for_a_connection_when_all_are_taken() -> None:
    async with client_of(says(*[OK] * 20), max_connections=2) as (client, server):
        bodies = await asyncio.gather(*(_body(client) for _ in range(10)))

    assert bodies == [b"hi"] * 10
    assert server.connections == 2


async def _body(client: Client) -> bytes:
    return await body_of(await get(client))


async def test_no_connection_in_time_is_an_error() -> None:
    async with client_of(says(CHUNKED), max_connections=1, connect_s=0.05) as (client, _):
        response = await get(client)
        with pytest.raises(ConnectFailed):
            await get(client)
        response.abort()


async def test_idle_connections_are_closed_in_time() -> None:
    async with client_of(says(OK, OK), keep_alive_s=0.05) as (client, server):
        await body_of(await get(client))
        await asyncio.wait_for(server.hung_up.wait(), 5)


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "http://user:pw@host/v1", "http://h/a b", "/v1"])
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        origin_of(url)


def test_an_address_is_taken_apart() -> None:
    assert origin_of("https://h/v1") == (Origin("https", "h", 443), "/v1")
    assert origin_of("http://[::1]:9/v1?a=b") == (Origin("http", "::1", 9), "/v1?a=b")
    assert Origin("http", "::1", 9).host_header == "[::1]:9"
    assert Origin("https", "h", 443).host_header == "h"


class _Wire(asyncio.Transport):
    """Takes what is written, and remembers whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_aborted = False

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class _Owner:
    def __init__(self) -> None:
        self.is_kept = False

    def idle(self, connection: Connection) -> None:
        self.is_kept = True

    def lost(self, connection: Connection) -> None:
        pass


RESPONSES = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\nx-a: 1\r\nx-a: 2\r\n\r\nhello world",
    CHUNKED + b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nt: 1\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nbroken off",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello",
]


@given(data=st.data(), response=st.sampled_from(RESPONSES))
def test_any_split_of_the_bytes_gives_the_same_response(data: st.DataObject, response: bytes) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(response) - 1))))
    edges = [0, *cuts, len(response)]

    split = asyncio.run(_parsed([response[a:b] for a, b in itertools.pairwise(edges)]))

    assert split == asyncio.run(_parsed([response]))


async def _parsed(pieces: list[bytes]) -> tuple[object, ...]:
    """What a caller sees of a response that arrives in these pieces, before the server closes."""
    owner, wire = _Owner(), _Wire()
    connection = Connection(owner, asyncio.get_running_loop())
    connection.connection_made(wire)
    asked = asyncio.ensure_future(connection.exchange(b"", keep_alive=True))
    await asyncio.sleep(0)
    for piece in pieces:
        connection.data_received(piece)
    connection.eof_received()
    connection.connection_lost(None)
    body = b""
    try:
        response = await asked
        while piece := await response.read():
            body += piece
    except (Disconnected, InvalidResponse) as error:
        status = asked.result().status if not asked.exception() else None
        return (type(error), status, body, owner.is_kept)
    return (response.status, response.headers, body, owner.is_kept)
