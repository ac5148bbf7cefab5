"""A client of Triplane's HTTP API for the terminal: one conversation, its answers as they stream.

It speaks to the server like any other client, by address and key. A connection that breaks in the middle of
an answer is taken up again from the last event seen.
"""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from triplane.domain.errors import DependencyFailed, TriplaneError, error_from_code

_CONNECT_TIMEOUT_S = 5.0
_SILENCE_TIMEOUT_S = 120.0
_RECONNECTS = 3
_MAX_EVENT_BYTES = 4 * 2**20


class _Error(msgspec.Struct):
    message: str = "The server answered with an error that it doesn't explain."
    code: str | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    turn_id: str | None = None
    error: _Error | None = None


class _Body(msgspec.Struct):
    """The fields of any answer that isn't a stream: a made object, a list, an error."""

    id: str | None = None
    data: list[dict[str, Any]] = []
    error: _Error | None = None


class Event(msgspec.Struct, frozen=True):
    """One server-sent event: its `id:`, if it has one, and its data."""

    id: str | None
    data: bytes


@dataclass
class ChatClient:
    """Talks to the server at `url` with `key`. Close it with `async with`.

    `conversation_id` None asks without a conversation: nothing is stored, and hanging up stops the answer.
    """

    url: str
    key: str
    model: str | None = None
    max_tokens: int | None = None
    conversation_id: str | None = None

    def __post_init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._turn_id: str | None = None
        self._seen: str | None = None

    async def __aenter__(self) -> "ChatClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def begin_conversation(self) -> None:
        """From now on, ask in a new conversation."""
        body = await self._call("POST", "/v1/conversations", {})
        self.conversation_id = body.id

    async def answer(self, text: str) -> AsyncGenerator[str, None]:
        """The pieces of the answer as they come. Raises TriplaneError."""
        self._turn_id, self._seen = None, None
        question: dict[str, Any] = {
            "model": await self._model(),
            "messages": [{"role": "user", "content": text}],
            "stream": True,
            "max_completion_tokens": self.max_tokens,
            "conversation_id": self.conversation_id,
        }
        question = {name: value for name, value in question.items() if value is not None}
        async for piece in self._pieces("POST", "/v1/chat/completions", question):
            yield piece

    async def stop_answer(self) -> None:
        """Stop the answer that runs; the server keeps what it has shown."""
        if self._turn_id is not None:
            await self._call("POST", f"/v1/turns/{self._turn_id}/stop", {})

    async def _pieces(self, method: str, path: str, body: Mapping[str, Any] | None) -> AsyncIterator[str]:
        tries = 0
        while True:
            try:
                async for chunk in self._chunks(method, path, body):
                    tries = 0
                    for choice in chunk.choices:
                        if choice.delta.content:
                            yield choice.delta.content
                return
            except (aiohttp.ClientError, TimeoutError) as error:
                tries += 1
                if self._turn_id is None or tries > _RECONNECTS:
                    raise DependencyFailed("The connection to the server broke off.") from error
            method, body = "GET", None
            path = f"/v1/turns/{self._turn_id}/events?after={self._seen or 0}"

    async def _chunks(self, method: str, path: str, body: Mapping[str, Any] | None) -> AsyncIterator[_Chunk]:
        headers = {"idempotency-key": uuid.uuid4().hex} if body is not None else {}
        async with await self._request(method, path, body, headers) as response:
            await require_success(response)
            async for event in read_events(response.content.iter_any()):
                if event.data == b"[DONE]":
                    return
                self._seen = event.id or self._seen
                chunk = msgspec.json.decode(event.data, type=_Chunk)
                self._turn_id = chunk.turn_id or self._turn_id
                if chunk.error is not None:
                    raise _error(chunk.error)
                yield chunk
        raise aiohttp.ClientPayloadError("The stream ended before its last event.")

    async def _model(self) -> str:
        """The model that was chosen, else the server's first."""
        if self.model is None:
            models = (await self._call("GET", "/v1/models", None)).data
            if not models:
                raise DependencyFailed("The server has no model.")
            self.model = str(models[0]["id"])
        return self.model

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> _Body:
        async with await self._request(method, path, body, {}) as response:
            await require_success(response)
            return msgspec.json.decode(await response.read(), type=_Body)

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_SILENCE_TIMEOUT_S
            )
            self._session = aiohttp.ClientSession(
                timeout=timeout, headers={"authorization": f"Bearer {self.key}"}
            )
        try:
            return await self._session.request(
                method, self.url.rstrip("/") + path, json=body, headers=dict(headers)
            )
        except aiohttp.ClientConnectorError as error:
            raise DependencyFailed(
                f"No server answers at {self.url}. Start one with `triplane serve`, or give --url."
            ) from error
        except aiohttp.InvalidURL as error:
            raise DependencyFailed(f"{self.url} is no address: write http://HOST:PORT.") from error


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
        body = msgspec.json.decode(await response.read(), type=_Body)
    except msgspec.DecodeError:
        body = _Body(error=_Error(f"The server answered with status {response.status}."))
    raise _error(body.error or _Error())


def _error(error: _Error) -> TriplaneError:
    return error_from_code(error.code or TriplaneError.code, error.message)
