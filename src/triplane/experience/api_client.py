"""Triplane's HTTP API as the terminal's clients see it: calls by address and key, and streams of events."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

import aiohttp
import msgspec

from triplane.domain.errors import DependencyFailed, TriplaneError, error_from_code

_CONNECT_TIMEOUT_S = 5.0
_SILENCE_TIMEOUT_S = 120.0
_MAX_EVENT_BYTES = 4 * 2**20

T = TypeVar("T")


class ErrorDetail(msgspec.Struct):
    message: str = "The server answered with an error that it doesn't explain."
    code: str | None = None


class _Refusal(msgspec.Struct):
    error: ErrorDetail | None = None


class Event(msgspec.Struct, frozen=True):
    """One server-sent event: its `id:`, if it has one, and its data."""

    id: str | None
    data: bytes


class NoServer(DependencyFailed):
    """Nobody listens at the server's address."""


class ApiClient:
    """Talks to the server at `url` with `key`. Close it with `async with`."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "ApiClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, path: str, answer: type[T], body: object = None) -> T:
        """The decoded answer of one call. Raises TriplaneError."""
        try:
            async with await self._request(method, path, body, {}) as response:
                await require_success(response)
                return msgspec.json.decode(await response.read(), type=answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DependencyFailed("The connection to the server broke off.") from error

    async def events(
        self, method: str, path: str, body: object, headers: Mapping[str, str]
    ) -> AsyncIterator[Event]:
        """The events of a stream, until it ends. Raises TriplaneError, aiohttp.ClientError, TimeoutError."""
        async with await self._request(method, path, body, headers) as response:
            await require_success(response)
            async for event in read_events(response.content.iter_any()):
                yield event

    async def _request(
        self, method: str, path: str, body: object, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_SILENCE_TIMEOUT_S
            )
            self._session = aiohttp.ClientSession(
                timeout=timeout, headers={"authorization": f"Bearer {self._key}"}
            )
        content: dict[str, Any] = {"headers": dict(headers)}
        if body is not None:
            content["data"] = msgspec.json.encode(body)
            content["headers"]["content-type"] = "application/json"
        try:
            return await self._session.request(method, self._url.rstrip("/") + path, **content)
        except aiohttp.ClientConnectorError as error:
            raise NoServer(
                f"No server answers at {self._url}. Start one with `triplane serve`, or give --url."
            ) from error
        except aiohttp.InvalidURL as error:
            raise DependencyFailed(f"{self._url} is no address: write http://HOST:PORT.") from error


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The server-sent events of a body. Comments (heartbeats) are skipped.

    Raises DependencyFailed for an event that is too large to be one of ours.
    """
    rest = b""
    event_id: str | None = None
    data: list[bytes] = []
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MAX_EVENT_BYTES:
            raise DependencyFailed("The server sent an event that is too large.")
        for line in (raw.rstrip(b"\r") for raw in lines):
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"id:"):
                event_id = line[3:].strip().decode("ascii", "replace")
            elif not line and data:
                yield Event(event_id, b"\n".join(data))
                event_id, data = None, []


async def require_success(response: aiohttp.ClientResponse) -> None:
    """Raises the TriplaneError that a refusal names."""
    if response.status < 400:
        return
    try:
        refusal = msgspec.json.decode(await response.read(), type=_Refusal)
    except msgspec.DecodeError:
        refusal = _Refusal(ErrorDetail(f"The server answered with status {response.status}."))
    raise error_of(refusal.error or ErrorDetail())


def error_of(detail: ErrorDetail) -> TriplaneError:
    """The error that the wire names."""
    return error_from_code(detail.code or TriplaneError.code, detail.message)
