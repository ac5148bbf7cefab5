"""Simulated time beside real time.

While steps run, simulated time is the sum of their durations, and real time follows `speed` times as quickly;
while nothing runs it passes by itself. If this machine can't keep up, the lag is not made up for beyond
`_MOST_LAG_S`, and `lag_s` says how much was lost: then the figures are this machine's, not the model's.
"""

import asyncio

_MOST_LAG_S = 0.25


class SimulatedClock:
    """`speed` is simulated seconds in a real one; 0: a step takes no real time at all."""

    def __init__(self, speed: float) -> None:
        if not speed >= 0:
            raise ValueError("A speed is 0 or more.")
        self._speed = speed
        self._loop = asyncio.get_running_loop()
        self._simulated = 0.0
        self._real = self._loop.time()
        self._until: float | None = None
        self.lag_s = 0.0

    def now(self) -> float:
        """Simulated seconds since the start; within a step, as far as it has come."""
        if self._until is not None and self._speed == 0:
            return self._simulated
        passed = (self._loop.time() - self._real) * (self._speed or 1.0)
        now = self._simulated + max(0.0, passed)
        return now if self._until is None else min(now, self._until)

    def real_seconds(self, simulated: float) -> float:
        """The real time that so much simulated time takes while nothing runs."""
        return simulated / (self._speed or 1.0)

    async def pass_step(self, seconds: float) -> float:
        """Let a step's duration pass, and other tasks run. The simulated time at its end."""
        end = self._until = self._simulated + seconds
        if self._speed:
            due = self._real + seconds / self._speed
            delay = due - self._loop.time()
            if delay < -_MOST_LAG_S:
                self.lag_s -= delay
                due -= delay
            await asyncio.sleep(max(0.0, delay))
            self._real = due
        else:
            await asyncio.sleep(0)
            self._real = self._loop.time()
        self._simulated = end
        self._until = None
        return end

    async def pass_idle(self, event: asyncio.Event, most: float | None) -> None:
        """Wait for the event, at most so many simulated seconds."""
        try:
            async with asyncio.timeout(None if most is None else self.real_seconds(max(0.0, most))):
                await event.wait()
        except TimeoutError:
            pass
        self._simulated = self.now()
        self._real = self._loop.time()
