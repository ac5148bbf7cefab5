"""One child process: started, watched, started again when it ends, stopped.

A child logs to its own file, never reads the terminal, and gets a signal when its supervisor dies, however
that dies (Linux; elsewhere the next start ends it, see `run_folder`).
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from triplane.adapters.embedded.run_folder import ChildRecord, RunFolder, start_time
from triplane.adapters.embedded.server_folder import EmbeddedServerError, SpawnOptions

_PR_SET_PDEATHSIG = 1
_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 10.0
_STEADY_AFTER_S = 30.0
_CRASH_LOOP = 5
_KILL_TIMEOUT_S = 5.0


class ChildFailed(EmbeddedServerError):
    """A child didn't get ready; the message says which, why, and where its log is."""


async def at_once() -> None:
    """Ready as soon as it runs."""


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """How to run a child.

    `prepare` runs, in a thread, before every start. `ready` returns once the child serves; it is cut off
    after `ready_timeout_s`. `title` is its name for people.
    """

    name: str
    title: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    prepare: Callable[[], None] | None = None
    ready: Callable[[], Awaitable[None]] = at_once
    ready_timeout_s: float = 60.0
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 8.0
    pass_fds: Sequence[int] = ()
    spawn_options: Callable[[], SpawnOptions] | None = None


class Child:
    """Keeps one child alive from `start` to `stop`. `changed` is called when its process changes."""

    def __init__(
        self, spec: ChildSpec, folder: RunFolder, say: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.record: ChildRecord | None = None
        self._folder = folder
        self._say = say
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and wait until it serves; from then on it is kept alive. Raises ChildFailed."""
        self._folder.rotate_log(self.spec.name)
        process = await self._spawn()
        await self._wait_ready(process)
        self._watcher = asyncio.create_task(self._keep_alive(), name=f"watch {self.spec.name}")

    async def stop(self) -> None:
        """Ask it to end, kill it when its time is up, and leave nothing of its group."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.spec.stop_signal)
            await _ended(process, self.spec.stop_timeout_s)
        await self._kill(process)
        self.record = None
        self._changed()

    async def _spawn(self) -> asyncio.subprocess.Process:
        spec = self.spec
        if spec.prepare is not None:
            await asyncio.to_thread(spec.prepare)
        options = spec.spawn_options() if spec.spawn_options else self._as_this_user()
        with self._folder.log_file(spec.name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(spec.environment),
                pass_fds=spec.pass_fds,
                preexec_fn=_tether(spec.stop_signal),
                **options,
            )
        self._process = process
        self.record = ChildRecord(
            name=spec.name,
            pid=process.pid,
            started_at=start_time(process.pid) or time.time(),
            stop_signal=spec.stop_signal,
        )
        self._changed()
        return process

    def _as_this_user(self) -> SpawnOptions:
        return SpawnOptions(
            user=None, group=None, extra_groups=None, cwd=str(self._folder.data_dir), process_group=0
        )

    async def _wait_ready(self, process: asyncio.subprocess.Process) -> None:
        ready = asyncio.ensure_future(self.spec.ready())
        ended = asyncio.ensure_future(process.wait())
        try:
            done, _ = await asyncio.wait(
                {ready, ended}, timeout=self.spec.ready_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if ready in done:
                ready.result()
                return
        finally:
            for waiting in (ready, ended):
                waiting.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)
        why = _how_it_ended(process.returncode) if ended in done else "wasn't ready in time"
        raise ChildFailed(self._complaint(why))

    async def _keep_alive(self) -> None:
        quick_deaths = 0
        while True:
            process = self._process
            assert process is not None
            began = time.monotonic()
            status = await process.wait()
            await self._kill(process)
            quick_deaths = 0 if time.monotonic() - began > _STEADY_AFTER_S else quick_deaths + 1
            delay = min(_FIRST_DELAY_S * 2 ** max(0, quick_deaths - 1), _LONGEST_DELAY_S)
            if quick_deaths == _CRASH_LOOP:
                self._say(self._complaint(f"keeps ending: it {_how_it_ended(status)}"))
            elif quick_deaths < _CRASH_LOOP:
                self._say(f"{self.spec.title} {_how_it_ended(status)}; starting it again.")
            await asyncio.sleep(delay)
            await self._start_again()

    async def _start_again(self) -> None:
        try:
            process = await self._spawn()
            await self._wait_ready(process)
        except EmbeddedServerError as failure:
            if self._process is not None and self._process.returncode is None:
                self._say(str(failure))
                await self._kill(self._process)
        except OSError as error:
            self._say(f"{self.spec.title} couldn't be started: {error}")
        else:
            self._say(f"{self.spec.title} serves again.")

    async def _kill(self, process: asyncio.subprocess.Process) -> None:
        """End what is left of the process and its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await _ended(process, _KILL_TIMEOUT_S)

    def _complaint(self, why: str) -> str:
        log = self._folder.log_file(self.spec.name)
        lines = "".join(f"\n    {line}" for line in self._folder.last_lines(self.spec.name))
        return f"{self.spec.title} {why}. Its log is {log}" + (f", and ends:{lines}" if lines else ".")


async def _ended(process: asyncio.subprocess.Process, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(process.wait(), timeout_s)
    except TimeoutError:
        return False
    return True


def _how_it_ended(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was killed by signal {-status}"
    return f"ended with status {status}"


def _tether(number: int) -> Callable[[], None] | None:
    """For the new process, before it becomes the program: a signal to it when its parent dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return partial(prctl, _PR_SET_PDEATHSIG, int(number), 0, 0, 0)
