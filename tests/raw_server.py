"""A server that says just what a test wants it to, byte for byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """`connections` counts those taken; `hung_up` is set when a client has closed one under a talk."""

    def __init__(self, talk: Talk) -> None:
        self.connections = 0
        self.hung_up = asyncio.Event()
        self.port = 0
        self._talk = talk

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up.set()
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(talk: Talk) -> AsyncIterator[RawServer]:
    made = RawServer(talk)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request, head and body. Raises IncompleteReadError when the client hangs up."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.partition(b":")[2]))
    return head
