"""Group commit: who waits gets an answer, whatever becomes of the statement."""

import asyncio
from collections.abc import Sequence

import pytest

from triplane.adapters.postgres.batches import Batches
from triplane.domain.errors import StoreUnavailable


async def test_what_comes_while_a_statement_breaks_off_is_told_too() -> None:
    writing, may_break = asyncio.Event(), asyncio.Event()

    async def write(items: Sequence[int]) -> Sequence[int]:
        writing.set()
        await may_break.wait()
        raise TypeError("nobody has foreseen this")

    batches = Batches(write, gather_s=0.0)
    first = asyncio.create_task(batches.add(1))
    await writing.wait()
    writer = batches._writing
    second = asyncio.create_task(batches.add(2))
    await asyncio.sleep(0)

    may_break.set()

    async with asyncio.timeout(5):
        for waiting in (first, second):
            with pytest.raises(StoreUnavailable):
                await waiting
        assert writer is not None
        with pytest.raises(TypeError):
            await writer


async def test_after_a_broken_statement_the_next_one_is_written() -> None:
    fails = [True]

    async def write(items: Sequence[int]) -> Sequence[int]:
        if fails.pop():
            raise StoreUnavailable("The database is away.")
        return [item * 10 for item in items]

    batches = Batches(write, gather_s=0.0)
    with pytest.raises(StoreUnavailable):
        await batches.add(1)

    fails.append(False)

    assert await batches.add(2) == 20
