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

Way = Literal[
    "stream", "reconnect", "hang up", "stop", "whole", "twice", "resend", "continue", "regenerate", "edit"
]
WAYS: tuple[Way, ...] = (
    "continue",
    "continue",
    "regenerate",
    "edit",
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

GIVE_UP_S = 150.0
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
    """One connection's view of a turn: what the client had before, and each event's position and text.

    `is_former`: the turn has been continued since, or may have been, so what was its end is none any more.
    """

    before: str
    after: int
    events: list[tuple[int, str]] = field(default_factory=list)
    status: str | None = None
    error: str | None = None
    is_former: bool = False

    @property
    def text(self) -> str:
        return self.before + "".join(text for _, text in self.events)

    @property
    def position(self) -> int:
        return self.events[-1][0] if self.events else self.after


@dataclass
class Turn:
    """One turn as its client lived it. `outcome` stays None for a client that had to give up.

    `path` is where it is asked. `beside`: the turn whose question it answers again; `below`: the message that
    its own question follows, None for the conversation's beginning, "" for wherever it belongs.
    """

    way: Way
    request_id: str
    conversation: str
    body: dict[str, Any]
    path: str = "/v1/chat/completions"
    beside: str | None = None
    below: str | None = ""
    message_id: str | None = None
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

    async def take_turn(self) -> list[Turn]:
        """One turn, and its second version where it has one, to the end or until patience is at an end."""
        way = self._luck.choice(WAYS)
        turns = [self._new(way, self._question(way))]
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVE_UP_S):
                await self._live(turns[0])
                if second := self._second(turns[0]):
                    turns.append(second)
                    await self._until_ended(second, self._send)
        return turns

    def _new(self, way: Way, body: dict[str, Any]) -> Turn:
        return Turn(way, uuid.UUID(int=self._luck.getrandbits(128)).hex, self._conversation, body)

    def _second(self, first: Turn) -> Turn | None:
        """The same question answered again, or another in its place."""
        if first.turn_id is None:
            return None
        match first.way:
            case "regenerate":
                second = self._new("regenerate", {"stream": True})
                second.path, second.beside = f"/v1/turns/{first.turn_id}/regenerate", first.turn_id
                return second
            case "edit":
                below = self._luck.choice([None, first.message_id])
                second = self._new("edit", self._question("edit") | {"parent_id": below})
                second.below = below
                return second
            case _:
                return None

    def _question(self, way: Way) -> dict[str, Any]:
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
            case "continue":
                await self._send(turn, leave_after=self._luck.randint(1, 12))
                if self._luck.random() < 0.5:
                    await self._stop(turn)
                await self._until_ended(turn, self._resume)
                for _ in range(self._luck.randint(1, 2)):
                    await self._continue(turn)
            case "stream" | "regenerate" | "edit":
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
                self._luck.choice(self._urls) + turn.path,
                json=turn.body,
                headers={"idempotency-key": turn.request_id},
                timeout=_LINE,
            ) as response:
                await self._read(turn, stream, response, leave_after)

    async def _continue(self, turn: Turn) -> None:
        """Have the answer go on behind its end, if it is one that can; from then on it is followed as ever.

        A refusal may come from what an earlier try has set going, whose answer never arrived.
        """
        if turn.turn_id is None or turn.outcome not in ("stopped", "complete", "error: engine_failed"):
            return
        for stream in turn.streams:
            stream.is_former = True
        turn.outcome = None
        body = {"stream": True, "max_tokens": self._luck.randint(4, MOST_TOKENS // 2)}
        is_accepted = False
        while not is_accepted:
            last = turn.streams[-1]
            stream = Stream(before=last.text, after=last.position)
            turn.connections += 1
            with suppress(*_BROKEN):
                async with self._http.post(
                    f"{self._luck.choice(self._urls)}/v1/turns/{turn.turn_id}/continue",
                    json=body,
                    timeout=_LINE,
                ) as response:
                    is_accepted = response.status in (200, 409)
                    if response.status == 200:
                        await self._read(turn, stream, response, None)
                    elif is_accepted:
                        turn.streams.append(Stream(before="", after=0))
                    else:
                        _refused(turn, response.status, await response.json())
                        is_accepted = turn.outcome is not None
            if not is_accepted:
                await asyncio.sleep(self._luck.uniform(0.05, 0.6))
        await self._until_ended(turn, self._resume)

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
            if not position:
                continue  # a continuation's beginning, which isn't in the log
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
            turn.message_id = chunk["message_id"]
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
