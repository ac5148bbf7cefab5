"""The supervisor: starts children in order, keeps them alive, stops them in reverse order.

It knows nothing of what the children are: `triplane.cli` describes each with a `ChildSpec`.
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from triplane.adapters.embedded.child import Child, ChildSpec
from triplane.adapters.embedded.run_folder import RunFolder

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Supervisor:
    """Owns every child that it has started, until `stop`. `say` tells the person one plain line."""

    folder: RunFolder
    say: Callable[[str], None]
    _groups: list[list[Child]] = field(default_factory=list)

    async def start(self, *specs: ChildSpec) -> None:
        """Start these together and wait until all serve. Raises ChildFailed; `stop` ends the others."""
        group = [Child(spec, self.folder, self.say, self._note) for spec in specs]
        self._groups.append(group)
        results = await asyncio.gather(*(child.start() for child in group), return_exceptions=True)
        for failure in (result for result in results if isinstance(result, BaseException)):
            raise failure

    async def stop(self) -> None:
        """Stop all: the groups in reverse order, the children of a group together."""
        while self._groups:
            await asyncio.gather(*(child.stop() for child in self._groups[-1]))
            self._groups.pop()

    def _note(self) -> None:
        children = (child for group in self._groups for child in group)
        self.folder.write_children([child.record for child in children if child.record is not None])


async def run_until_told(
    start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]], say: Callable[[str], None]
) -> None:
    """Run `start`, then wait for Ctrl-C or a signal to end, then run `stop`; `stop` runs in every case.

    A signal during `start` cancels it. What `start` raises is raised after `stop`.
    """
    told = asyncio.Event()
    with _signals_set(told):
        starting = asyncio.ensure_future(start())
        waiting = asyncio.ensure_future(told.wait())
        try:
            await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait({starting})
            elif starting.exception() is None:
                await waiting
        finally:
            waiting.cancel()
            say("Stopping …")
            await stop()
    if not starting.cancelled():
        starting.result()


@contextlib.contextmanager
def _signals_set(event: asyncio.Event, signals: Sequence[signal.Signals] = _STOP_SIGNALS) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, event.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
