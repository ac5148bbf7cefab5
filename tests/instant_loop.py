"""An event loop whose clock jumps: where nothing is left to do it is the time of the next timer at once.

So a test of an hour's timeout takes no time, and what waits for nothing that could come fails at once.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: it tells how long it was to."""

    waited_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if timeout is None and not events:
            raise RuntimeError("Everything waits, and no timer is set: this would hang for ever.")
        if not events:
            self.waited_s += max(0.0, timeout or 0.0)
        return events


class InstantLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.waited_s


def run_instantly(main: Coroutine[Any, Any, T]) -> T:
    """Its result, on an instant loop of its own. What is left over is cancelled."""
    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        return runner.run(main)


async def settle() -> None:
    """Let everybody do what can be done now, however many steps that takes."""
    for _ in range(50):
        await asyncio.sleep(0)


def now() -> float:
    """The running loop's clock."""
    return asyncio.get_running_loop().time()
