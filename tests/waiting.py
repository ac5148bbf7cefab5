"""Waiting for what tells nobody when it has happened."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], bool | Awaitable[bool]], within_s: float = 10.0) -> None:
    """Return once it holds. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await _told(holds()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _told(answer: bool | Awaitable[bool]) -> bool:
    return answer if isinstance(answer, bool) else await answer
