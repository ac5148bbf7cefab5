"""The fault injector: at random instants something dies, stalls, or is told to leave."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp

from chaos.cluster import Cluster, Part

KINDS = (
    "kill an API worker",
    "pause an API worker",
    "kill Redis",
    "kill an API worker and Redis",
    "kill PostgreSQL",
    "kill an API worker and PostgreSQL",
    "kill the job worker",
    "roll an API worker",
    "pause Redis",
    "pause PostgreSQL",
    "pause the engine",
)
KILL_ENGINE = "kill the engine"
"""Apart, because the engine's count of its tokens is exact only for as long as it lives."""
COUNTER = "llamacpp:tokens_predicted_total"


class Faults:
    """Injects faults, one at a time, from `run` until `enough` is set; none is cut off in its middle.

    `longest_pause_s` is for an API worker; the longest is longer than a lease.
    """

    def __init__(
        self,
        cluster: Cluster,
        luck: random.Random,
        every_s: tuple[float, float],
        longest_pause_s: float,
        *,
        engine_dies: bool,
    ) -> None:
        self.enough = asyncio.Event()
        self.counts: Counter[str] = Counter()
        self._longest_pause_s = longest_pause_s
        self.engine_tokens = 0
        self.engine_deaths = 0
        self._cluster = cluster
        self._luck = luck
        self._every_s = every_s
        self._kinds = (*KINDS, KILL_ENGINE) if engine_dies else KINDS

    async def run(self) -> None:
        """Every kind once in a random order, over and over; in the end everything runs."""
        while not self.enough.is_set():
            for kind in self._luck.sample(self._kinds, len(self._kinds)):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.enough.wait(), self._luck.uniform(*self._every_s))
                if self.enough.is_set():
                    break
                await self._inject(kind)
                self.counts[kind] += 1
                await self._cluster.revive()
        await self._cluster.wait_ready()

    async def count_engine_tokens(self) -> int:
        """What the engine says it has generated since it started; 0 while it loads."""
        headers = {"authorization": f"Bearer {self._cluster.engine_key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{self._cluster.engine_url}/metrics") as response,
        ):
            lines = (await response.text()).splitlines()
        return sum(int(float(line.split()[1])) for line in lines if line.startswith(COUNTER + " "))

    async def _inject(self, kind: str) -> None:
        worker = self._luck.choice(self._cluster.workers)
        pause_s = self._luck.uniform(0.3, self._longest_pause_s)
        actions: dict[str, Callable[[], Awaitable[None]]] = {
            "kill an API worker": lambda: self._kill(worker),
            "pause an API worker": lambda: self._pause(worker, pause_s),
            "kill Redis": lambda: self._kill(self._cluster.redis),
            "kill an API worker and Redis": lambda: self._kill(self._cluster.redis, worker),
            "kill PostgreSQL": lambda: self._kill(self._cluster.postgres),
            "kill an API worker and PostgreSQL": lambda: self._kill(self._cluster.postgres, worker),
            "kill the job worker": lambda: self._kill(self._cluster.job_worker),
            "roll an API worker": lambda: self._roll(worker),
            KILL_ENGINE: self._kill_engine,
            "pause Redis": lambda: self._pause(self._cluster.redis, self._luck.uniform(0.2, 3)),
            "pause PostgreSQL": lambda: self._pause(self._cluster.postgres, self._luck.uniform(0.2, 3)),
            "pause the engine": lambda: self._pause(self._cluster.engine, self._luck.uniform(0.2, 3)),
        }
        await actions[kind]()

    async def _kill(self, *parts: Part) -> None:
        await asyncio.gather(*(part.kill() for part in parts))
        await asyncio.sleep(self._luck.uniform(0, 1.5))
        for part in self._luck.sample(parts, len(parts)):
            await part.start()

    async def _kill_engine(self) -> None:
        """Its counter dies with it, so it is read first."""
        with suppress(aiohttp.ClientError, TimeoutError):
            self.engine_tokens += await asyncio.wait_for(self.count_engine_tokens(), 3)
        self.engine_deaths += 1
        await self._kill(self._cluster.engine)

    async def _pause(self, part: Part, seconds: float) -> None:
        part.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            part.signal(signal.SIGCONT)

    async def _roll(self, part: Part) -> None:
        await part.end(signal.SIGTERM)
        await part.start()
