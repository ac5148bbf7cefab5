"""What clients saw against what is stored. Every finding is one line that names the turn."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import asyncpg

from chaos.clients import MOST_TOKENS, Stream, Turn
from chaos.cluster import PARALLEL

UNREAD_TOKENS = 12
"""What an engine may compute for an answer between our last read of its stream and its noticing that we have
left: two tokens when it is idle, some more when the machine is busy."""
TITLE_TOKENS = 24
TITLES_AT_ONCE = 2
_ENDS = {"complete", "incomplete", "stopped", "failed"}


@dataclass(frozen=True)
class StoredTurn:
    id: str
    request_id: str
    state: str
    fence: int
    completion_tokens: int
    content: str
    message_status: str
    question_id: str | None
    question_parent: str | None


@dataclass(frozen=True)
class Bill:
    """One usage event: a call to an engine, by one of a turn's owners."""

    id: str
    turn_id: str | None
    completion_tokens: int

    @property
    def owner(self) -> str:
        """The attempt of the turn that the call was made for: the id without the call's number."""
        return self.id.removesuffix("_rest").rpartition("_")[0]


@dataclass
class Stored:
    """All that the database holds of a run."""

    turns: dict[str, StoredTurn] = field(default_factory=dict)
    bills: list[Bill] = field(default_factory=list)
    seqs: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    last_seqs: dict[str, int] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)


async def read_stored(database_url: str) -> Stored:
    stored = Stored()
    connection = await asyncpg.connect(database_url)
    try:
        for row in await connection.fetch(_TURNS):
            text = json.loads(row["content_json"]) if row["content_json"] else ""
            fields = {name: row[name] for name in _FIELDS}
            stored.turns[row["id"]] = StoredTurn(**fields, content=text, message_status=row["status"])
        for row in await connection.fetch(_BILLS):
            stored.bills.append(Bill(**row))
        for row in await connection.fetch("SELECT conversation_id, seq FROM messages ORDER BY seq"):
            stored.seqs[row["conversation_id"]].append(row["seq"])
        for row in await connection.fetch("SELECT id, last_seq FROM conversations"):
            stored.last_seqs[row["id"]] = row["last_seq"]
        stored.orphans = [row["id"] for row in await connection.fetch(_ORPHANS)]
    finally:
        await connection.close()
    return stored


_FIELDS = ("id", "request_id", "state", "fence", "completion_tokens", "question_id", "question_parent")

_TURNS = """
SELECT t.id, t.request_id, t.state, t.fence, t.completion_tokens, m.content_json, m.status,
    q.id AS question_id, q.parent_id AS question_parent
FROM turns t JOIN messages m ON m.tenant_id = t.tenant_id AND m.id = t.message_id
LEFT JOIN messages q ON q.tenant_id = m.tenant_id AND q.id = m.parent_id"""

_BILLS = "SELECT id, turn_id, completion_tokens FROM usage_events"

_ORPHANS = """
SELECT m.id FROM messages m LEFT JOIN messages p ON p.tenant_id = m.tenant_id AND p.id = m.parent_id
    AND p.conversation_id = m.conversation_id AND p.seq < m.seq
WHERE m.parent_id IS NOT NULL AND p.id IS NULL"""


def check(turns: Sequence[Turn], stored: Stored, replays: Mapping[str, Stream]) -> list[str]:
    """Every violation there is."""
    found = [*_check_order(stored), *_check_bills(stored)]
    for turn in turns:
        found += [
            f"{turn.way} {turn.turn_id or turn.request_id}: {line}" for line in _check_turn(turn, stored)
        ]
    for turn_id, told in replays.items():
        found += [f"replay of {turn_id}: {line}" for line in _check_replay(told, stored.turns[turn_id])]
    return found


def _check_order(stored: Stored) -> Iterable[str]:
    for conversation, seqs in stored.seqs.items():
        if seqs != list(range(1, len(seqs) + 1)) or stored.last_seqs[conversation] != len(seqs):
            yield f"{conversation} has the seqs {seqs} and last_seq {stored.last_seqs[conversation]}"
    for message in stored.orphans:
        yield f"{message} follows no earlier message of its conversation"
    for turn in stored.turns.values():
        if turn.state not in _ENDS:
            yield f"{turn.id} is still {turn.state}"
        if turn.message_status != turn.state:
            yield f"{turn.id} is {turn.state}, its message {turn.message_status}"


def _check_bills(stored: Stored) -> Iterable[str]:
    """A bill names one of the turn's attempts, and the turn's total is that of its bills at most."""
    attempts: dict[str, set[str]] = defaultdict(set)
    tokens: Counter[str] = Counter()
    for bill in stored.bills:
        if bill.turn_id and not bill.id.endswith("_rest"):
            attempts[bill.turn_id].add(bill.owner)
            tokens[bill.turn_id] += bill.completion_tokens
    for turn in stored.turns.values():
        if len(attempts[turn.id]) > turn.fence:
            yield f"{turn.id} had {turn.fence} attempts, and {len(attempts[turn.id])} are billed"
        if tokens[turn.id] < turn.completion_tokens:
            yield f"{turn.id} says {turn.completion_tokens} tokens, its bills {tokens[turn.id]}"


def check_total(stored: Stored, counted: int, engine_deaths: int, job_worker_deaths: int) -> Iterable[str]:
    """The bill's total against the engine's own count.

    Nothing may be billed that the engine didn't compute; one that dies hasn't counted what ran in it, so only
    a run in which it lives is strict there. The other way round some is lost with a process that is killed:
    of an attempt that another owner went on with, what wasn't written yet, which may be all that the attempt
    was still allowed if the store was away too; and of each answer that was cut off, what nobody has read.
    """
    billed = sum(bill.completion_tokens for bill in stored.bills)
    cut_off = sum(turn.state != "complete" for turn in stored.turns.values())
    lost = _left_to_compute(stored) + job_worker_deaths * TITLES_AT_ONCE * TITLE_TOKENS
    if billed > counted + engine_deaths * PARALLEL * MOST_TOKENS:
        yield f"{billed} tokens were billed, and the engine counted {counted}"
    if counted > billed + lost + cut_off * UNREAD_TOKENS:
        yield f"{counted} tokens were computed, and {billed} billed"


def _left_to_compute(stored: Stored) -> int:
    """What all attempts but each turn's last had still been allowed when they were billed."""
    billed: Counter[str] = Counter()
    for bill in stored.bills:
        billed[bill.owner] += bill.completion_tokens
    return sum(
        max(0, MOST_TOKENS - billed[f"usage_{turn.id.removeprefix('turn_')}_{fence}"])
        for turn in stored.turns.values()
        for fence in range(1, turn.fence)
    )


def _check_turn(turn: Turn, stored: Stored) -> Iterable[str]:
    ids = {each.id for each in stored.turns.values() if each.request_id == turn.request_id}
    if len(ids | turn.turn_ids) > 1:
        yield f"one request id made the turns {sorted(ids | turn.turn_ids)}"
    if turn.outcome is None:
        yield f"its client gave up after {turn.connections} connections; refusals: {turn.refusals[-3:]}"
    if turn.turn_id is None:
        return
    kept = stored.turns.get(turn.turn_id)
    if kept is None:
        yield "was shown and isn't stored"
        return
    yield from _check_place(turn, kept, stored)
    for stream in turn.streams:
        yield from _check_stream(stream, kept)
    for text in turn.wholes:
        if text != kept.content:
            yield f"answered {text!r}, stored {kept.content!r}"


def _check_place(turn: Turn, kept: StoredTurn, stored: Stored) -> Iterable[str]:
    if turn.beside and kept.question_id != stored.turns[turn.beside].question_id:
        yield f"answers another question than {turn.beside}"
    if turn.below != "" and kept.question_parent != turn.below:
        yield f"follows {kept.question_parent}, and was asked below {turn.below}"


def _check_stream(stream: Stream, kept: StoredTurn) -> Iterable[str]:
    positions = [stream.after, *(position for position, _ in stream.events)]
    if any(later <= earlier for earlier, later in pairwise(positions)):
        yield f"positions don't rise: {positions}"
    if not kept.content.startswith(stream.text):
        yield f"showed {stream.text!r}, stored ({kept.state}) {kept.content!r}"
    if stream.status is not None and not stream.is_former:
        if stream.text != kept.content:
            yield f"ended as {stream.status} with {stream.text!r}, stored {kept.content!r}"
        if stream.status != kept.state:
            yield f"ended as {stream.status}, stored as {kept.state}"


def _check_replay(told: Stream, kept: StoredTurn) -> Iterable[str]:
    yield from _check_stream(told, kept)
    if told.text != kept.content:
        yield f"tells {told.text!r}, stored {kept.content!r}"
    if told.status is None and told.error is None:
        yield "doesn't end"
