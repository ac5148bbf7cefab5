"""Told to stop while it starts: no signal is forgotten, whatever the process is busy with."""

import asyncio
import signal

import pytest

from triplane.adapters.http_server import cancelled_by_signals


async def test_a_signal_that_comes_while_the_loop_is_blocked_cancels_what_follows() -> None:
    leaving = asyncio.get_running_loop().create_future()

    async def start_and_serve() -> None:
        with cancelled_by_signals(leaving):
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.create_task(start_and_serve()), 10)


async def test_a_signal_that_is_raised_again_behind_the_server_cancels_nothing() -> None:
    leaving = asyncio.get_running_loop().create_future()
    with cancelled_by_signals(leaving):
        leaving.set_result(None)
        signal.raise_signal(signal.SIGTERM)
        for _ in range(3):
            await asyncio.sleep(0)
