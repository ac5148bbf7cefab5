"""What the HTTP server adds to uvicorn: writes of one moment gathered, and room for many connections."""

import asyncio
import resource
from typing import cast

from triplane.adapters.http_server import GatheringTransport, allow_open_files


class Socket:
    """Notes each system call that a transport would make."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append(b"closed")


def gathering(socket: Socket) -> GatheringTransport:
    return GatheringTransport(cast(asyncio.Transport, socket), asyncio.get_running_loop())


async def test_what_is_written_in_one_moment_goes_out_together_and_in_order() -> None:
    socket = Socket()
    transport = gathering(socket)
    for piece in (b"head", b"first", b"second"):
        transport.write(piece)
    assert socket.calls == []
    await asyncio.sleep(0)
    transport.write(b"later")
    await asyncio.sleep(0)
    assert socket.calls == [b"headfirstsecond", b"later"]


async def test_a_writer_that_never_rests_gathers_a_bounded_amount() -> None:
    socket = Socket()
    transport = gathering(socket)
    for _ in range(100):
        transport.write(b"x" * 10_000)
    assert sum(map(len, socket.calls)) >= 930_000
    await asyncio.sleep(0)
    assert sum(map(len, socket.calls)) == 1_000_000


async def test_closing_writes_what_was_gathered_first() -> None:
    socket = Socket()
    transport = gathering(socket)
    transport.write(b"last words")
    transport.close()
    await asyncio.sleep(0)
    assert socket.calls == [b"last words", b"closed"]


def test_a_server_takes_as_many_open_files_as_it_may_have() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
