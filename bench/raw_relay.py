"""The floor: a relay that copies bytes between two sockets and knows nothing of what they mean.

`python -m bench.raw_relay PORT UPSTREAM_PORT`. Each client's connection gets one of its own to the upstream.
"""

import asyncio
import sys

import uvloop


class _Upstream(asyncio.Protocol):
    def __init__(self, client: asyncio.Transport) -> None:
        self.client = client
        self.transport: asyncio.Transport | None = None
        self.waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        for data in self.waiting:
            transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.client.close()


class _Client(asyncio.Protocol):
    def __init__(self, upstream_port: int) -> None:
        self._port = upstream_port
        self._upstream: _Upstream | None = None
        self._connecting: asyncio.Task[object] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._upstream = upstream = _Upstream(transport)
        loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(loop.create_connection(lambda: upstream, "127.0.0.1", self._port))

    def data_received(self, data: bytes) -> None:
        assert self._upstream is not None
        if self._upstream.transport is None:
            self._upstream.waiting.append(data)
        else:
            self._upstream.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.abort()


async def serve(port: int, upstream_port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: _Client(upstream_port), "127.0.0.1", port, backlog=2048
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
