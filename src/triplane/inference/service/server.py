"""Listens, and looks after the connections: deadlines, heartbeats, a graceful end."""

import asyncio
import socket
from email.utils import formatdate

from triplane.inference.service.connection import Application, ServerConnection

MAX_CONNECTIONS = 20_000
_LOOK_EVERY_S = 1.0
_END_S = 5.0
"""How long what was broken off may take to end: to stop its engine, to be billed."""


class HttpServer:
    """Serves `application` until `drain`."""

    def __init__(
        self, application: Application, max_body_bytes: int, max_connections: int = MAX_CONNECTIONS
    ) -> None:
        self.application = application
        self.max_body_bytes = max_body_bytes
        self.is_draining = False
        self.date = b""
        self.running: set[asyncio.Task[None]] = set()
        self._max_connections = max_connections
        self._connections: set[ServerConnection] = set()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._all_closed = asyncio.Event()

    async def start(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._look()
        self._server = await loop.create_server(
            lambda: ServerConnection(self, loop), sock=listening, backlog=2048
        )

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    @property
    def unsent_bytes(self) -> int:
        """What was written and no client has taken yet: all that slow clients cost."""
        return sum(connection.unsent_bytes for connection in self._connections)

    async def drain(self, within_s: float) -> None:
        """Take no more connections, finish what runs, and close; break off what still runs after that."""
        self.is_draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(within_s):
                await self._until_closed()
        except TimeoutError:
            for connection in list(self._connections):
                connection.hang_up()
            await self._until_closed()
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if self.running:
            await asyncio.wait(self.running, timeout=_END_S)

    def opened(self, connection: ServerConnection) -> bool:
        if len(self._connections) >= self._max_connections or self.is_draining:
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_closed.set()

    async def _until_closed(self) -> None:
        while self._connections:
            self._all_closed.clear()
            await self._all_closed.wait()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        self.application.look()
        now = loop.time()
        for connection in list(self._connections):
            connection.look(now)
        self._timer = loop.call_later(_LOOK_EVERY_S, self._look)
