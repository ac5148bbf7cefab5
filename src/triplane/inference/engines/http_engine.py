"""What every engine behind HTTP shares: connections, a request sent, its answer streamed, a refusal read.

The client keeps connections open between requests. Aborting a stream before its end closes its connection,
which is how engines learn to stop. Everything that is sent goes
through `_open` or `_call`.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypedDict, TypeVar

import msgspec

from triplane.domain.completion import ModelCard
from triplane.domain.errors import EngineFailed, EngineUnavailable, TriplaneError
from triplane.domain.events import EngineEvent, Usage
from triplane.inference.engines.engine import EngineLoad
from triplane.inference.engines.event_reader import EventReader
from triplane.inference.http1 import Client, Http1Error, InvalidResponse, Response, origin_of

CONNECT_S = 5.0
CHECK_S = 5.0
LOAD_S = 2.0
CALL_S = 30.0
LEAVE_S = 0.05
MAX_ERROR_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 64 * 2**20
MAX_RETRY_AFTER_S = 3600.0

_NOT_THERE = frozenset((404, 405, 501))


class ErrorBody(msgspec.Struct):
    """What an engine says in place of an answer: its error's fields, or nothing that we understand."""

    error: Any = None
    message: str | None = None
    detail: Any = None

    def fields(self) -> dict[str, Any]:
        return error_fields(self.error if self.error is not None else self.message or self.detail)


_decode_error = msgspec.json.Decoder(ErrorBody).decode


def error_fields(error: Any) -> dict[str, Any]:
    """An error's fields, whatever its shape; `message` is always there, maybe empty."""
    if isinstance(error, dict):
        return {**error, "message": str(error.get("message") or "")}
    return {"message": str(error or "")}


T = TypeVar("T")


def answer_as(kind: type[T], raw: bytes) -> T:
    """A short answer's body. Raises EngineFailed if it isn't of this kind."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineFailed("The engine's answer isn't what an engine of its kind sends.") from error


class NoSuchEndpoint(EngineUnavailable):
    """The engine is there, but has nothing at this path."""


class HttpStream:
    """One answer, read from its HTTP response."""

    def __init__(self, response: Response, reader: EventReader) -> None:
        self._response = response
        self._reader = reader
        self._error: TriplaneError | None = None
        self._is_reading = False

    @property
    def model(self) -> str:
        return self._reader.model

    @property
    def usage(self) -> Usage:
        return self._reader.usage

    async def read(self) -> list[EngineEvent] | None:
        if self._error is not None:
            raise self._error
        if self._reader.is_done:
            return None
        if self._reader.is_broken:
            return self._reader.feed(b"")
        self._is_reading = True
        try:
            data = await self._response.read()
        except Http1Error as error:
            raise self._error or EngineFailed("The connection to the engine broke.") from error
        finally:
            self._is_reading = False
        if self._error is not None:
            raise self._error
        return self._reader.feed(data) if data else [self._reader.finish()]

    def abort(self, error: TriplaneError) -> None:
        self._error = error
        self._response.abort()

    async def aclose(self) -> None:
        if self._reader.is_done and not self._response.is_complete:
            await self._read_to_the_end()
        self._count_what_has_come()
        self._response.abort()

    def _count_what_has_come(self) -> None:
        """What has come unread was computed too, and the engine's counts come with it."""
        if self._is_reading or self._reader.is_done:
            return
        with suppress(TriplaneError):
            self._reader.feed(self._response.read_nowait())

    async def _read_to_the_end(self) -> None:
        """Take the last bytes behind [DONE], so that the connection can serve the next request."""
        try:
            async with asyncio.timeout(LEAVE_S):
                while await self._response.read():
                    pass
        except (TimeoutError, Http1Error):
            return


class EngineOptions(TypedDict, total=False):
    """What every engine's constructor takes beside its address and card."""

    name: str
    api_key: str | None
    engine_model: str | None
    connect_s: float


class HttpEngine(ABC):
    """An engine at `base_url` (it ends in `/v1`). `engine_model` is its name for the model, if another.

    Give it to one event loop and `close` it there.
    """

    def __init__(
        self,
        base_url: str,
        card: ModelCard,
        *,
        name: str,
        api_key: str | None = None,
        engine_model: str | None = None,
        connect_s: float = CONNECT_S,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._card = card
        self._name = name
        self._engine_model = engine_model or card.id
        self._connect_s = connect_s
        self._origin, path = origin_of(self._base_url)
        self._address = self._base_url.removesuffix(path) if path != "/" else self._base_url
        self._headers = {"Content-Type": "application/json", **self._authentication(api_key)}
        self._session: Client | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def card(self) -> ModelCard:
        return self._card

    async def check(self) -> None:
        await self._call("GET", f"{self._base_url}/models", within_s=CHECK_S)

    async def load(self) -> EngineLoad | None:
        return None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def _root(self) -> str:
        """Where the routes beside `/v1` are."""
        return self._base_url.removesuffix("/v1")

    def _authentication(self, api_key: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    @abstractmethod
    def _refusal(self, status: int, fields: dict[str, Any], retry_after_s: float | None) -> TriplaneError:
        """The error that an HTTP status with these error fields means."""

    async def _open(self, path: str, body: Any, headers: Mapping[str, str]) -> Response:
        """Send the request; the response that streams its answer, once the engine has said yes."""
        try:
            response = await self._send("POST", f"{self._base_url}{path}", body, headers)
        except Http1Error as error:
            raise _unreachable(error) from error
        if response.status != 200:
            raise await self._read_refusal(response)
        return response

    async def _send(self, method: str, url: str, body: Any, headers: Mapping[str, str]) -> Response:
        """Raises Http1Error. `url` is one of this engine's origin."""
        data = None if body is None else msgspec.json.encode(body)
        keep_alive = headers.get("Connection") != "close"
        path = url.removeprefix(self._address)
        return await self._open_session().request(method, path, headers, data, keep_alive=keep_alive)

    async def _call(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        within_s: float = CALL_S,
    ) -> bytes:
        """One short exchange: its answer's body. Raises what the engine refuses with, and NoSuchEndpoint."""
        try:
            async with asyncio.timeout(within_s):
                response = await self._send(method, url, body, headers or {})
                if response.status != 200:
                    refused = await self._read_refusal(response)
                    raise NoSuchEndpoint(refused.message) if response.status in _NOT_THERE else refused
                return await _whole(response, MAX_ANSWER_BYTES)
        except TimeoutError as error:
            raise EngineUnavailable("The engine doesn't answer.") from error
        except Http1Error as error:
            raise _unreachable(error) from error

    async def _read_refusal(self, response: Response) -> TriplaneError:
        """Whatever becomes of its body, the status tells enough."""
        raw = b""
        try:
            async with asyncio.timeout(CHECK_S):
                raw = await _whole(response, MAX_ERROR_BYTES)
        except (TimeoutError, Http1Error, EngineFailed):
            pass
        try:
            fields = _decode_error(raw).fields()
        except (msgspec.DecodeError, UnicodeDecodeError):
            fields = error_fields(None)
        return self._refusal(response.status, fields, _retry_after_s(response))

    def _open_session(self) -> Client:
        """The client, made on first use because it belongs to the running loop."""
        if self._session is None:
            self._session = Client(self._origin, self._headers, connect_s=self._connect_s)
        return self._session


async def _whole(response: Response, limit: int) -> bytes:
    """The whole body. Raises EngineFailed if it is larger than `limit`."""
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := await response.read():
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise EngineFailed("The engine sent an answer that is too large.")
    finally:
        response.abort()
    return b"".join(pieces)


def _unreachable(error: Http1Error) -> TriplaneError:
    if isinstance(error, InvalidResponse):
        return EngineFailed("The engine's answer isn't valid HTTP.")
    return EngineUnavailable("The engine can't be reached. It may be starting, or down.")


def _retry_after_s(response: Response) -> float | None:
    """The seconds that the engine asks us to wait; a date or nonsense counts as not said."""
    text = response.headers.get("retry-after", "")
    return min(float(text), MAX_RETRY_AFTER_S) if text.isascii() and text.isdigit() else None
