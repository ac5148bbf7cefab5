"""One run: people take turns while things die; then everything settles and is checked."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from chaos.checker import Stored, check, check_total, read_stored
from chaos.clients import Person, Stream, Turn, new_conversation, replay
from chaos.cluster import Cluster, running_cluster
from chaos.faults import Faults

SETTLE_S = 90.0
"""How long after the last fault a turn may still run: a lease, a takeover, an answer's length, with room."""

REPLAYS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`people` take `turns` between them, or as many as can be begun in `most_s` seconds; some share a
    conversation. No fault comes later than that either."""

    seed: int
    turns: int
    people: int
    workers: int
    fault_every_s: tuple[float, float]
    longest_pause_s: float
    engine_dies: bool
    most_s: float


@dataclass(frozen=True, kw_only=True)
class Report:
    plan: Plan
    seconds: float
    turns: list[Turn]
    stored: Stored
    faults: Counter[str]
    engine_tokens: int
    engine_deaths: int
    violations: list[str]

    @property
    def billed_tokens(self) -> int:
        return sum(bill.completion_tokens for bill in self.stored.bills)


async def run(plan: Plan, model_file: Path, say: Callable[[str], None] = print) -> Report:
    """Start everything, hurt it, check it, end it."""
    say(f"seed {plan.seed}")
    began = time.monotonic()
    async with running_cluster(model_file, plan.workers, say) as cluster:
        faults = Faults(
            cluster,
            random.Random(plan.seed),
            plan.fault_every_s,
            plan.longest_pause_s,
            engine_dies=plan.engine_dies,
        )
        headers = {"authorization": f"Bearer {cluster.key}"}
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as http:
            say(f"ready after {time.monotonic() - began:.0f} s")
            turns = await _live(plan, cluster, faults, http)
            say(f"{len(turns)} turns after {time.monotonic() - began:.0f} s, faults: {dict(faults.counts)}")
            stored = await _settle(cluster)
            replays = await _replay_all(http, cluster, stored)
            engine_tokens = faults.engine_tokens + await faults.count_engine_tokens()
        violations = [
            *cluster.ended,
            *(f"{part.name} was told to end and didn't" for part in cluster.parts if part.overdue),
            *check(turns, stored, replays),
            *check_total(stored, engine_tokens, faults.engine_deaths, faults.counts["kill the job worker"]),
        ]
        cluster.keeps_logs = bool(violations)
        if violations:
            say(f"The processes' logs are in {cluster.folder}.")
        return Report(
            plan=plan,
            seconds=time.monotonic() - began,
            turns=turns,
            stored=stored,
            faults=faults.counts,
            engine_tokens=engine_tokens,
            engine_deaths=faults.engine_deaths,
            violations=violations,
        )


async def _live(plan: Plan, cluster: Cluster, faults: Faults, http: aiohttp.ClientSession) -> list[Turn]:
    """All turns, with faults while they run."""
    urls = [worker.url for worker in cluster.workers]
    places = [await new_conversation(http, urls[0]) for _ in range(max(1, plan.people * 2 // 3))]
    left, until = iter(range(plan.turns)), time.monotonic() + plan.most_s
    turns: list[Turn] = []

    async def live(number: int) -> None:
        luck = random.Random(f"{plan.seed}:{number}")
        person = Person(http, urls, places[number % len(places)], luck)
        for _ in left:
            if time.monotonic() > until:
                return
            turns.extend(await person.take_turn())

    async with asyncio.TaskGroup() as both:
        both.create_task(faults.run())
        asyncio.get_running_loop().call_later(plan.most_s, faults.enough.set)
        async with asyncio.TaskGroup() as people:
            for number in range(plan.people):
                people.create_task(live(number))
        faults.enough.set()
    return turns


async def _settle(cluster: Cluster) -> Stored:
    """What is stored once no turn runs any more, or once that has had its time."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        stored = await read_stored(cluster.database_url)
        if time.monotonic() > deadline or all(turn.state != "streaming" for turn in stored.turns.values()):
            await asyncio.sleep(2)  # the last bills of owners that were overtaken
            return await read_stored(cluster.database_url)
        await asyncio.sleep(0.5)


async def _replay_all(http: aiohttp.ClientSession, cluster: Cluster, stored: Stored) -> dict[str, Stream]:
    """Each ended turn, told once more by one worker or another."""
    ended = [turn.id for turn in stored.turns.values() if turn.state != "streaming"]
    urls = [worker.url for worker in cluster.workers]
    told: dict[str, Stream] = {}
    at_once = asyncio.Semaphore(REPLAYS_AT_ONCE)

    async def tell(number: int, turn_id: str) -> None:
        async with at_once:
            told[turn_id] = await replay(http, urls[number % len(urls)], turn_id)

    async with asyncio.TaskGroup() as telling:
        for number, turn_id in enumerate(ended):
            telling.create_task(tell(number, turn_id))
    return told
