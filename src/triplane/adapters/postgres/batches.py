"""Group commit: what many callers write in one moment is one statement, and each waits for its own part."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import asyncpg

from triplane.domain.errors import StoreUnavailable, TriplaneError

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_AT_ONCE = 500


class Batches(Generic[Item, Result]):
    """`write` stores items and returns a result for each. Items gather for `gather_s` seconds.

    Where `write` fails for what an item is, each is written alone, so that none fails for another's sake.
    """

    def __init__(
        self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], gather_s: float
    ) -> None:
        self._write = write
        self._gather_s = gather_s
        self._pending: list[tuple[Item, asyncio.Future[Result]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> Result:
        """Its result, once it is stored. Raises what `write` raises for it."""
        stored: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._pending.append((item, stored))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        return await stored

    async def aclose(self) -> None:
        """Wait for what is pending."""
        if self._writing:
            await asyncio.wait((self._writing,))

    async def _write_all(self) -> None:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        try:
            while self._pending:
                await asyncio.sleep(self._gather_s)
                batch, self._pending = self._pending[:_MOST_AT_ONCE], self._pending[_MOST_AT_ONCE:]
                if not await self._written(batch):
                    for each in batch:
                        await self._written([each])
        finally:
            # Where it broke off, nobody is left who would write what came meanwhile.
            self._writing = None
            left, self._pending = [*batch, *self._pending], []
            _fail([stored for _, stored in left], StoreUnavailable("The store's writer broke off."))

    async def _written(self, batch: Sequence[tuple[Item, "asyncio.Future[Result]"]]) -> bool:
        """Write them together and tell who waits; False, with nobody told, where each has to be tried."""
        waiting = [stored for _, stored in batch]
        try:
            results = await self._write([item for item, _ in batch])
        except StoreUnavailable as error:
            _fail(waiting, error)
        except (asyncpg.PostgresError, TriplaneError) as error:
            if len(batch) > 1:
                return False
            _fail(waiting, error)
        else:
            for stored, result in zip(waiting, results, strict=True):
                if not stored.done():
                    stored.set_result(result)
        return True


def _fail(waiting: "Sequence[asyncio.Future[Result]]", error: Exception) -> None:
    for stored in waiting:
        if not stored.done():
            stored.set_exception(error)
