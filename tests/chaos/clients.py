"""Clients as the world has them: impatient, in two tabs, on bad lines. Each notes all that it was shown."""

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

Way = Literal["stream", "reconnect", "hang up", "stop", "whole", "twice", "resend"]
WAYS: tuple[Way, ...] = (
    "stream",
    "stream",
    "reconnect",
    "reconnect",
    "hang up",
    "stop",
    "whole",
    "twice",
    "resend",
)

GIVE_UP_S = 75.0
"""How long a client tries at one turn. A turn that hasn't come to an end by then is a finding."""
SILENCE_S = 8.0
"""How long a client waits on a silent line before it connects anew."""

MOST_TOKENS = 40
QUESTIONS = (
    "Tell me about the sea.",
    "Count as far as you can.",
    "What do owls eat?",
    "Write a story about a clock.",
    "Why is the sky blue?",
)
_BROKEN = (aiohttp.ClientError, TimeoutError, ConnectionError)


@dataclass
class Stream:
    """One connection's view of a turn: what the client had before, and each event's position and text."""

    before: str
    after: int
    events: list[tuple[int, str]] = field(default_factory=list)
    status: str | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        return self.before + "".join(text for _, text in self.events)

    @property
    def position(self) -> int:
        return self.events[-1][0] if self.events else self.after


@dataclass
class Turn:
    """One turn as its client lived it. `outcome` stays None for a client that had to give up."""

    way: Way
    request_id: str
    conversation: str
    body: dict[str, Any]
    turn_ids: set[str] = field(default_factory=set)
    streams: list[Stream] = field(default_factory=list)
    wholes: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    connections: int = 0
    restarts: int = 0
    outcome: str | None = None

    @property
    def turn_id(self) -> str | None:
        return next(iter(self.turn_ids), None)


class Person:
    """Someone with a conversation and a choice of workers. `urls` are all of them, alive or not."""

    def __init__(
        self, http: aiohttp.ClientSession, urls: list[str], conversation: str, luck: random.Random
    ) -> None:
        self._http = http
        self._urls = urls
        self._conversation = conversation
        self._luck = luck

    async def take_turn(self) -> Turn:
        """One turn, to its end or until patience is at an end."""
        way = self._luck.choice(WAYS)
        turn = Turn(way, uuid.UUID(int=self._luck.getrandbits(128)).hex, self._conversation, self._body(way))
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVE_UP_S):
                await self._live(turn)
        return turn

    def _body(self, way: Way) -> dict[str, Any]:
        return {
            "model": "smollm2",
            "conversation_id": self._conversation,
            "messages": [{"role": "user", "content": self._luck.choice(QUESTIONS)}],
            "max_tokens": self._luck.randint(8, MOST_TOKENS),
            "stream": way != "whole",
        }

    async def _live(self, turn: Turn) -> None:
        match turn.way:
            case "whole":
                await self._until_ended(turn, self._ask_for_all)
            case "twice":
                await asyncio.gather(self._until_ended(turn, self._send), self._until_ended(turn, self._send))
            case "hang up":
                await self._send(turn, leave_after=self._luck.randint(1, 12))
                if self._luck.random() < 0.5:
                    await self._until_ended(turn, self._resume)
                else:
                    turn.outcome = turn.outcome or "left"
            case "stop":
                await self._send(turn, leave_after=self._luck.randint(1, 5))
                await self._stop(turn)
                await self._until_ended(turn, self._resume)
            case "resend":
                await self._until_ended(turn, self._send)
                turn.outcome = None
                await self._until_ended(turn, self._send)
            case "stream":
                await self._until_ended(turn, self._send)
            case "reconnect":
                await self._send(turn)
                await self._until_ended(turn, self._resume)

    async def _until_ended(self, turn: Turn, attempt: Any) -> None:
        while turn.outcome is None:
            await attempt(turn)
            if turn.outcome is None:
                await asyncio.sleep(self._luck.uniform(0.05, 0.6))

    async def _send(self, turn: Turn, leave_after: int | None = None) -> None:
        """Ask, or ask again: with the same key it is the same turn, told from its start."""
        stream = Stream(before="", after=0)
        turn.connections += 1
        with suppress(*_BROKEN):
            async with self._http.post(
                self._luck.choice(self._urls) + "/v1/chat/completions",
                json=turn.body,
                headers={"idempotency-key": turn.request_id},
                timeout=_LINE,
            ) as response:
                await self._read(turn, stream, response, leave_after)

    async def _resume(self, turn: Turn) -> None:
        """Go on behind the last event, at any worker; without a turn to name, ask again."""
        if turn.turn_id is None or not turn.streams:
            await self._send(turn)
            return
        last = turn.streams[-1]
        stream = Stream(before=last.text, after=last.position)
        turn.connections += 1
        with suppress(*_BROKEN):
            async with self._http.get(
                f"{self._luck.choice(self._urls)}/v1/turns/{turn.turn_id}/events",
                headers={"last-event-id": str(stream.after)},
                timeout=_LINE,
            ) as response:
                await self._read(turn, stream, response, None)

    async def _stop(self, turn: Turn) -> None:
        while turn.turn_id:
            turn.connections += 1
            with suppress(*_BROKEN):
                url = f"{self._luck.choice(self._urls)}/v1/turns/{turn.turn_id}/stop"
                async with self._http.post(url, timeout=_LINE) as response:
                    if response.status == 202:
                        return
            await asyncio.sleep(0.2)

    async def _ask_for_all(self, turn: Turn) -> None:
        turn.connections += 1
        with suppress(*_BROKEN):
            async with self._http.post(
                self._luck.choice(self._urls) + "/v1/chat/completions",
                json=turn.body,
                headers={"idempotency-key": turn.request_id},
                timeout=aiohttp.ClientTimeout(total=30),
            ) as response:
                answer = await response.json()
                if response.status == 200:
                    turn.turn_ids.add(answer["turn_id"])
                    turn.wholes.append(answer["choices"][0]["message"]["content"] or "")
                    turn.outcome = answer["status"]
                else:
                    _refused(turn, response.status, answer)

    async def _read(
        self, turn: Turn, stream: Stream, response: aiohttp.ClientResponse, leave_after: int | None
    ) -> None:
        if response.status != 200:
            _refused(turn, response.status, await response.json())
            return
        turn.streams.append(stream)
        async for position, chunk in _events(response):
            if not stream.events and stream.after and position > stream.after + 1:
                turn.restarts += 1
                turn.streams.append(
                    Stream(before="", after=0)
                )  # a gap: the log was lost, so read from the start
                return
            if "error" in chunk:
                stream.error = str(chunk["error"]["code"])
                stream.events.append((position, ""))
                turn.outcome = f"error: {stream.error}"
                return
            turn.turn_ids.add(chunk["turn_id"])
            stream.events.append((position, _text_of(chunk)))
            if status := chunk.get("status"):
                stream.status = turn.outcome = status
                return
            if leave_after is not None and len(stream.events) >= leave_after:
                return


_LINE = aiohttp.ClientTimeout(total=60, sock_read=SILENCE_S)
_MOST_REFUSALS = 30


def _refused(turn: Turn, status: int, answer: Any) -> None:
    """Note a refusal. A part that is down comes back, so the client does too, but not for ever."""
    turn.refusals.append(f"{status} {answer['error']['code']}")
    if status < 500 or turn.refusals.count(turn.refusals[-1]) >= _MOST_REFUSALS:
        turn.outcome = f"refused: {turn.refusals[-1]}"


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    position = 0
    async for line in response.content:
        if not line.endswith(b"\n"):
            return  # the line broke in its middle
        if line.startswith(b"id: "):
            position = int(line[4:])
        elif line.startswith(b"data: {"):
            yield position, json.loads(line.removeprefix(b"data: "))


def _text_of(chunk: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


async def replay(http: aiohttp.ClientSession, url: str, turn_id: str) -> Stream:
    """The whole turn once more, as a new device is told it."""
    stream = Stream(before="", after=0)
    async with http.get(f"{url}/v1/turns/{turn_id}/events", timeout=_LINE) as response:
        response.raise_for_status()
        async for position, chunk in _events(response):
            if "error" in chunk:
                stream.error = str(chunk["error"]["code"])
                break
            stream.events.append((position, _text_of(chunk)))
            stream.status = chunk.get("status") or stream.status
    return stream


async def new_conversation(http: aiohttp.ClientSession, url: str) -> str:
    async with http.post(f"{url}/v1/conversations", json={}) as response:
        response.raise_for_status()
        return str((await response.json())["id"])
