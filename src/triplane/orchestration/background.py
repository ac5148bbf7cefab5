"""Work that outlives the request that began it: every task has this one owner, which ends it."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import structlog

_log = structlog.get_logger(__name__)


class BackgroundTasks:
    """Owns tasks by name. A task that fails is logged; `aclose` waits a while, then cancels the rest."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` under a `name` that no running task has."""
        if name in self._tasks:
            work.close()
            raise ValueError(f"a task named {name} runs already")
        task = asyncio.create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(self._forget)

    def cancel(self, name: str, reason: str) -> bool:
        """Cancel a task, which sees `reason` in its CancelledError; False if none has this name."""
        task = self._tasks.get(name)
        return task.cancel(reason) if task else False

    async def aclose(self, grace_s: float) -> None:
        """Wait up to `grace_s` seconds for the tasks to end by themselves, then cancel and await them."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace_s)
        while self._tasks:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=5)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task.get_name(), None)
        if not task.cancelled() and (failure := task.exception()):
            _log.error("background task failed", task=task.get_name(), exc_info=failure)


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` whole: a cancellation that comes meanwhile is too late and changes nothing."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()
