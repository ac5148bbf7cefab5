"""The simulated engine's addresses: routes, listeners, and what is refused before the engine sees it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from triplane.inference.simulated_engine import wire
from triplane.inference.simulated_engine.connection import Connection, Exchange
from triplane.inference.simulated_engine.engine import SimulatedEngine
from triplane.inference.simulated_engine.faults import (
    CloseListener,
    Drop,
    Fault,
    FaultPlan,
    Faults,
    Hang,
    Refuse,
)
from triplane.inference.simulated_engine.intake import check_parts
from triplane.inference.simulated_engine.kv_fetch import PATH as KV_PATH
from triplane.inference.simulated_engine.metrics import CONTENT_TYPE
from triplane.inference.simulated_engine.options import EngineOptions
from triplane.inference.simulated_engine.tokens import prompt_tokens, token_id, tokenize
from triplane.inference.simulated_engine.wire import Rejected

_BACKLOG = 4096

T = TypeVar("T")


class Listener:
    """One address, and the connections that came in by it."""

    def __init__(self, host: str, port: int, handle: Callable[[Exchange], None]) -> None:
        self.host = host
        self.port = port
        self.handle = handle
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._reopening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), self.host, self.port, backlog=_BACKLOG
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def close_for(self, seconds: float) -> None:
        """Refuse connections for so long, and reset those that are open."""
        self.shut()
        if self._reopening is None or self._reopening.done():
            self._reopening = asyncio.get_running_loop().create_task(self._open_after(seconds))

    def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.reset()

    async def close(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.gather(self._reopening, return_exceptions=True)
        self.shut()

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)

    async def _open_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.open()


class SimulatedEngineServer:
    """`url` ends in `/v1`. `control_url` is a second address that no fault closes."""

    def __init__(self, options: EngineOptions, host: str = "127.0.0.1", port: int = 0, control_port: int = 0):
        """Raises UnknownProfile, ModelTooLarge."""
        self.engine = SimulatedEngine(options)
        self.faults = Faults(options.faults)
        self._main = Listener(host, port, self._handle)
        self._control = Listener(host, control_port, self._handle)
        self._routes: dict[tuple[str, str], Callable[[Exchange], None]] = {
            ("POST", "/v1/chat/completions"): self._complete,
            ("POST", "/v1/embeddings"): self._embed,
            ("GET", "/v1/models"): self._models,
            ("POST", "/tokenize"): self._tokenize,
            ("GET", "/health"): lambda exchange: exchange.reply(200, b"", "text/plain"),
            ("GET", "/metrics"): lambda exchange: exchange.reply(
                200, self.engine.metrics.text(), CONTENT_TYPE
            ),
            ("GET", "/simulation"): lambda exchange: exchange.reply_json(self.engine.simulation),
            ("GET", "/simulation/requests"): lambda exchange: exchange.reply_json(list(self.engine.records)),
            ("GET", "/faults"): lambda exchange: exchange.reply_json(self.faults.state),
            ("POST", "/faults"): self._set_faults,
            ("POST", KV_PATH): self._transfer,
            ("POST", "/reset_prefix_cache"): self._reset_prefix_cache,
        }

    @property
    def url(self) -> str:
        return f"http://{self._main.host}:{self._main.port}/v1"

    @property
    def control_url(self) -> str:
        return f"http://{self._control.host}:{self._control.port}"

    async def open(self) -> None:
        """Listen. Raises OSError."""
        await self._main.open()
        await self._control.open()
        self.engine.kv_address = (self._main.host, self._main.port)

    def close_listener(self, seconds: float) -> None:
        """Refuse connections for so long, as the fault of that name does."""
        self._main.close_for(seconds)

    def shut(self) -> None:
        """Refuse everyone from now on."""
        self._main.shut()
        self._control.shut()

    async def close(self) -> None:
        await self._main.close()
        await self._control.close()

    def _handle(self, exchange: Exchange) -> None:
        try:
            self._require_key(exchange)
            route = self._routes.get((exchange.method, exchange.path))
            if route is None:
                known = any(path == exchange.path for _, path in self._routes)
                raise Rejected(405 if known else 404, "Method Not Allowed" if known else "Not Found")
            route(exchange)
        except Rejected as error:
            exchange.reply(error.status, wire.error_body(error.status, error.message, error.param))

    def _require_key(self, exchange: Exchange) -> None:
        """As in vLLM, the key guards `/v1` alone."""
        key = self.engine.options.api_key
        if not key or not exchange.path.startswith("/v1/"):
            return
        if exchange.headers.get("authorization") != f"Bearer {key}":
            raise Rejected(401, "Unauthorized")

    def _complete(self, exchange: Exchange) -> None:
        fault = self.faults.draw()
        if not self._strikes_at_once(fault, exchange):
            self.engine.take(exchange, self.engine.intake.plan(exchange.body), fault)

    def _embed(self, exchange: Exchange) -> None:
        fault = self.faults.draw()
        if not self._strikes_at_once(fault, exchange):
            self.engine.take_embedding(exchange, fault)

    def _strikes_at_once(self, fault: Fault | None, exchange: Exchange) -> bool:
        """Whether the fault comes before the engine has looked at the request; then it has come."""
        match fault:
            case Hang(after_tokens=None):
                pass
            case Drop(after_tokens=None):
                exchange.drop()
            case CloseListener():
                self._main.close_for(fault.seconds)
            case Refuse():
                headers = {} if fault.retry_after_s is None else {"retry-after": str(fault.retry_after_s)}
                body = wire.error_body(fault.status, "A fault was asked for.")
                exchange.reply(fault.status, body, headers=headers)
            case _:
                return False
        return True

    def _models(self, exchange: Exchange) -> None:
        engine = self.engine
        card = {
            "id": engine.model_id,
            "object": "model",
            "created": engine.created,
            "owned_by": "triplane-simulated",
            "root": engine.model_id,
            "parent": None,
            "max_model_len": engine.max_model_len,
        }
        exchange.reply_json({"object": "list", "data": [card]})

    def _tokenize(self, exchange: Exchange) -> None:
        request = _decoded(exchange, wire.TokenizeRequest)
        if request.messages is None:
            tokens = tokenize(request.prompt or "")
        else:
            for message in request.messages:
                check_parts(message)
            tokens = prompt_tokens(request.messages)
            tokens = tokens if request.add_generation_prompt else tokens[:-1]
        ids = [token_id(token) for token in tokens]
        exchange.reply_json({"count": len(ids), "max_model_len": self.engine.max_model_len, "tokens": ids})

    def _set_faults(self, exchange: Exchange) -> None:
        self.faults.set(_decoded(exchange, FaultPlan))
        exchange.reply_json(self.faults.state)

    def _transfer(self, exchange: Exchange) -> None:
        request = _decoded(exchange, wire.TransferRequest)
        tokens = None
        if request.engine_id == self.engine.id and request.request_id.isdecimal():
            tokens = self.engine.read_held(int(request.request_id))
        if tokens is None:
            raise Rejected(404, "No KV cache is held for this request.")
        exchange.reply_json({"tokens": tokens})

    def _reset_prefix_cache(self, exchange: Exchange) -> None:
        self.engine.scheduler.pool.forget()
        exchange.reply(200, b"", "text/plain")


def _decoded(exchange: Exchange, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(exchange.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(400, f"The request can't be read: {error}") from None


@asynccontextmanager
async def running_simulated_engine(
    options: EngineOptions, host: str = "127.0.0.1", port: int = 0, control_port: int = 0
) -> AsyncIterator[SimulatedEngineServer]:
    """An engine that serves until the block is left. Raises UnknownProfile, ModelTooLarge, OSError."""
    server = SimulatedEngineServer(options, host, port, control_port)
    await server.open()
    life = asyncio.get_running_loop().create_task(server.engine.run())
    # An engine that has died refuses its clients instead of keeping them waiting.
    life.add_done_callback(lambda _: server.shut())
    try:
        yield server
    finally:
        life.cancel()
        try:
            await life
        except asyncio.CancelledError:
            pass
        finally:
            await server.close()
