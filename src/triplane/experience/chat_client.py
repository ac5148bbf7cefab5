"""A conversation from the terminal: its answers as they stream, its branches, and the way to earlier ones.

It speaks to the server like any other client. A connection that breaks in the middle of an answer is taken up
again from the last event seen, also where the server starts again meanwhile; a question that may or may not
have arrived is asked again under the same request id, which is one turn however often it comes.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from time import monotonic
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from triplane.domain.errors import DependencyFailed, InvalidRequest
from triplane.experience.api_client import ApiClient, NoServer, error_of
from triplane.experience.chat_objects import (
    Chunk,
    ConversationLine,
    ConversationPage,
    Hit,
    HitPage,
    Message,
    MessagePage,
    Named,
    Names,
    Outcome,
)

_RECONNECT_WITHIN_S = 10.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class _Outage:
    """A server that can't be reached, as while it starts again: asked after longer and longer pauses."""

    def __init__(self) -> None:
        self._until = monotonic() + _RECONNECT_WITHIN_S
        self._pause_s = _FIRST_PAUSE_S

    async def waits(self) -> bool:
        """Whether it is worth another try, and then the pause before it."""
        if monotonic() >= self._until:
            return False
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return True


class ChatClient:
    """Talks to the server at `url` with `key`. Close it with `async with`.

    `conversation_id` None asks without a conversation: nothing is stored, and hanging up stops the answer.
    """

    def __init__(
        self,
        url: str,
        key: str,
        model: str | None = None,
        max_tokens: int | None = None,
        conversation_id: str | None = None,
    ) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.conversation_id = conversation_id
        self.outcome = Outcome()
        self._api = ApiClient(url, key)
        self._turn_id: str | None = None
        self._seen: str | None = None

    async def __aenter__(self) -> "ChatClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.__aexit__()

    # Conversations

    async def begin_conversation(self) -> None:
        """From now on, ask in a new conversation."""
        self.conversation_id = (await self._api.call("POST", "/v1/conversations", Named, {})).id
        self._turn_id = None

    async def open_conversation(self, conversation_id: str) -> list[Message]:
        """From now on, ask in this one. Returns its active path. Raises NotFound."""
        path = await self._messages(conversation_id, active=True)
        self.conversation_id = conversation_id
        self._turn_id = path[-1].turn_id if path else None
        return path

    async def recent(self, limit: int) -> list[ConversationLine]:
        """The conversations, newest activity first."""
        return (await self._api.call("GET", f"/v1/conversations?limit={limit}", ConversationPage)).data

    async def search(self, words: str, limit: int) -> list[Hit]:
        """Where these words stand, in titles and messages."""
        return (
            await self._api.call("GET", f"/v1/search?q={quote(words, safe='')}&limit={limit}", HitPage)
        ).data

    async def models(self) -> list[str]:
        return [model.id for model in (await self._api.call("GET", "/v1/models", Names)).data]

    # Answers

    async def answer(self, text: str) -> AsyncGenerator[str, None]:
        """The pieces of the answer as they come. Raises TriplaneError."""
        async for piece in self._ask(text, {}):
            yield piece

    async def edit(self, text: str) -> AsyncGenerator[str, None]:
        """Put another question in the place of the last one: a branch beside it. Raises TriplaneError."""
        path = await self._messages(self._conversation(), active=True)
        asked = next((message for message in reversed(path) if message.role == "user"), None)
        if asked is None:
            raise InvalidRequest("There is no question yet that could be edited.")
        async for piece in self._ask(text, {"parent_id": asked.parent_id}):
            yield piece

    async def answer_again(self) -> AsyncGenerator[str, None]:
        """Another answer to the last question, beside the one that there is. Raises TriplaneError."""
        path = f"/v1/turns/{self._last_turn()}/regenerate"
        body = {"model": self.model, "max_tokens": self.max_tokens}
        async for piece in self._stream(
            path, {name: value for name, value in body.items() if value is not None}
        ):
            yield piece

    async def go_on(self) -> AsyncGenerator[str, None]:
        """The rest of an answer that was cut off. Raises TriplaneError."""
        async for piece in self._stream(f"/v1/turns/{self._last_turn()}/continue", {}):
            yield piece

    async def follow(self) -> AsyncGenerator[str, None]:
        """The answer that is being written in this conversation, from its beginning. Raises TriplaneError."""
        self._seen = None
        async for piece in self._pieces("GET", f"/v1/turns/{self._last_turn()}/events?after=0", None):
            yield piece

    async def stop_answer(self) -> None:
        """Stop the answer that runs; the server keeps what it has shown."""
        if self._turn_id is not None and self.conversation_id is not None:
            await self._api.call("POST", f"/v1/turns/{self._turn_id}/stop", Named, {})

    # Branches

    async def branches(self) -> tuple[list[Message], int]:
        """The answers to the last question, oldest first, and which of them is shown."""
        everything = await self._messages(self._conversation(), active=False)
        path = await self._messages(self._conversation(), active=True)
        if not path:
            return [], 0
        beside = [message for message in everything if message.parent_id == path[-1].parent_id]
        return beside, next((at for at, message in enumerate(beside) if message.id == path[-1].id), 0)

    async def choose(self, message: Message) -> None:
        """Show the branch of this message; what is asked next goes on from there."""
        await self._api.call(
            "POST", f"/v1/conversations/{self._conversation()}", Named, {"active_leaf": message.id}
        )
        self._turn_id = message.turn_id

    # How it is done

    async def _ask(self, text: str, placed: dict[str, str | None]) -> AsyncGenerator[str, None]:
        question: dict[str, Any] = {
            "model": await self._model(),
            "messages": [{"role": "user", "content": text}],
            "max_completion_tokens": self.max_tokens,
            "conversation_id": self.conversation_id,
        }
        question = {name: value for name, value in question.items() if value is not None}
        async for piece in self._stream("/v1/chat/completions", question | placed):
            yield piece

    async def _stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[str, None]:
        self._turn_id, self._seen = None, None
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async for piece in self._pieces("POST", path, body):
            yield piece

    async def _pieces(self, method: str, path: str, body: object) -> AsyncIterator[str]:
        headers = {"idempotency-key": uuid.uuid4().hex} if method == "POST" else {}
        self.outcome = Outcome(self.conversation_id)
        outage: _Outage | None = None
        while True:
            try:
                async for chunk in self._chunks(method, path, body, headers):
                    outage = None
                    for choice in chunk.choices:
                        if choice.delta.content:
                            yield choice.delta.content
                return
            except (aiohttp.ClientError, TimeoutError, NoServer) as error:
                outage = outage or _Outage()
                if self.conversation_id is None or not await outage.waits():
                    if isinstance(error, NoServer):
                        raise
                    raise DependencyFailed("The connection to the server broke off.") from error
            if self._turn_id is not None:
                method, body, headers = "GET", None, {}
                path = f"/v1/turns/{self._turn_id}/events?after={self._seen or 0}"

    async def _chunks(
        self, method: str, path: str, body: object, headers: dict[str, str]
    ) -> AsyncIterator[Chunk]:
        async for event in self._api.events(method, path, body, headers):
            if event.data == b"[DONE]":
                return
            self._seen = event.id or self._seen
            chunk = msgspec.json.decode(event.data, type=Chunk)
            self._note(chunk)
            if chunk.error is not None:
                raise error_of(chunk.error)
            yield chunk
        raise aiohttp.ClientPayloadError("The stream ended before its last event.")

    def _note(self, chunk: Chunk) -> None:
        self._turn_id = chunk.turn_id or self._turn_id
        outcome = self.outcome
        outcome.turn_id = self._turn_id
        outcome.model = chunk.model or outcome.model
        outcome.usage = chunk.usage or outcome.usage
        for choice in chunk.choices:
            outcome.finish_reason = choice.finish_reason or outcome.finish_reason

    async def _messages(self, conversation_id: str, *, active: bool) -> list[Message]:
        found: list[Message] = []
        path = f"/v1/conversations/{quote(conversation_id, safe='')}/messages?limit=100"
        path += "&path=active" if active else ""
        page = await self._api.call("GET", path, MessagePage)
        found += page.data
        while page.has_more and page.data:
            page = await self._api.call("GET", f"{path}&after={page.data[-1].seq}", MessagePage)
            found += page.data
        return found

    async def _model(self) -> str:
        """The model that was chosen, else the server's first."""
        if self.model is None:
            models = await self.models()
            if not models:
                raise DependencyFailed("The server has no model.")
            self.model = models[0]
        return self.model

    def _conversation(self) -> str:
        if self.conversation_id is None:
            raise InvalidRequest("There is no conversation: nothing is kept of single questions.")
        return self.conversation_id

    def _last_turn(self) -> str:
        if self._turn_id is None:
            raise InvalidRequest("There is no answer yet.")
        return self._turn_id
