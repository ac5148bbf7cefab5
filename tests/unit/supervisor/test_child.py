"""Children that are started, watched, started again and stopped; each is a real, small process."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from triplane.adapters.embedded.child import ChildFailed, ChildSpec
from triplane.adapters.embedded.run_folder import RunFolder
from triplane.adapters.embedded.supervisor import Supervisor, run_until_told
from waiting import until

WAITS = "import time; time.sleep(60)"


class Said:
    """What the supervisor told the person, and a way to wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._more.set()

    async def wait_for(self, part: str) -> None:
        async with asyncio.timeout(15):
            while not any(part in line for line in self.lines):
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def said() -> Said:
    return Said()


@pytest_asyncio.fixture
async def supervisor(tmp_path: Path, said: Said) -> AsyncIterator[Supervisor]:
    folder = RunFolder(tmp_path)
    folder.make()
    made = Supervisor(folder, said)
    yield made
    await made.stop()


def spec(name: str, program: str, **options: object) -> ChildSpec:
    return ChildSpec(name=name, title=name, command=(sys.executable, "-S", "-c", program), **options)  # type: ignore[arg-type]


def pid_of(supervisor: Supervisor, name: str) -> int:
    return next(record.pid for record in supervisor.folder.read_children() if record.name == name)


def writes(path: Path) -> str:
    return f"import pathlib, time; pathlib.Path({str(path)!r}).write_text('up'); time.sleep(60)"


def exists(path: Path) -> Callable[[], Awaitable[None]]:
    return lambda: until(path.exists, within_s=15)


async def test_start_returns_once_the_child_is_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    sign = tmp_path / "sign"

    await supervisor.start(spec("one", writes(sign), ready=exists(sign)))

    assert sign.read_text() == "up"
    assert psutil.pid_exists(pid_of(supervisor, "one"))


async def test_a_child_that_ends_before_it_is_ready_fails_the_start_with_its_last_words(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with pytest.raises(ChildFailed, match=r"(?s)one ended with status 3.*no such flag"):
        await supervisor.start(
            spec("one", "print('no such flag'); raise SystemExit(3)", ready=exists(tmp_path / "never"))
        )


async def test_a_child_that_is_not_ready_in_time_fails_the_start(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with pytest.raises(ChildFailed, match="wasn't ready in time"):
        await supervisor.start(spec("one", WAITS, ready=exists(tmp_path / "never"), ready_timeout_s=0.2))


async def test_a_killed_child_is_started_again_and_that_is_said(supervisor: Supervisor, said: Said) -> None:
    await supervisor.start(spec("one", WAITS))
    first = pid_of(supervisor, "one")

    os.kill(first, signal.SIGKILL)
    await said.wait_for("one serves again.")

    assert said.lines[0] == "one was killed by signal 9; starting it again."
    assert pid_of(supervisor, "one") != first


async def test_a_child_that_keeps_ending_is_said_plainly(
    supervisor: Supervisor, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triplane.adapters.embedded.child._FIRST_DELAY_S", 0.01)
    await supervisor.start(spec("one", "print('no memory'); raise SystemExit(1)"))

    await said.wait_for("one keeps ending: it ended with status 1.")

    assert "no memory" in said.lines[-1]


async def test_stop_ends_a_child_and_what_it_has_started(supervisor: Supervisor, tmp_path: Path) -> None:
    sign = tmp_path / "grandchild"
    program = (
        "import pathlib, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-S', '-c', {WAITS!r}])\n"
        f"pathlib.Path({str(tmp_path / 'part')!r}).write_text(str(child.pid))\n"
        f"pathlib.Path({str(tmp_path / 'part')!r}).rename({str(sign)!r})\n"
        "time.sleep(60)"
    )
    await supervisor.start(spec("one", program, ready=exists(sign)))
    family = [psutil.Process(pid_of(supervisor, "one")), psutil.Process(int(sign.read_text()))]

    await supervisor.stop()

    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    assert supervisor.folder.read_children() == []


async def test_a_child_that_ignores_the_signal_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    program = "import signal; signal.signal(15, signal.SIG_IGN)\n" + writes(sign)
    await supervisor.start(spec("one", program, ready=exists(sign), stop_timeout_s=0.2))
    process = psutil.Process(pid_of(supervisor, "one"))

    await supervisor.stop()

    assert not process.is_running()


async def test_groups_stop_in_reverse_order(supervisor: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    program = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    with open({order!r}, 'a') as file: file.write({name!r} + '\\n')\n"
        "    sys.exit(0)\n"
        "signal.signal(15, end)\n"
    )
    for name in ("store", "api"):
        sign = tmp_path / name
        text = program.format(order=str(order), name=name) + writes(sign)
        await supervisor.start(spec(name, text, ready=exists(sign)))

    await supervisor.stop()

    assert order.read_text().split() == ["api", "store"]


async def test_a_signal_ends_the_run_and_stops_what_was_started() -> None:
    steps: list[str] = []

    async def start() -> None:
        steps.append("started")
        os.kill(os.getpid(), signal.SIGTERM)

    async def stop() -> None:
        steps.append("stopped")

    await run_until_told(start, stop, lambda _: None)

    assert steps == ["started", "stopped"]


async def test_what_fails_in_the_start_is_raised_after_the_stop() -> None:
    steps: list[str] = []

    async def start() -> None:
        raise ChildFailed("no")

    async def stop() -> None:
        steps.append("stopped")

    with pytest.raises(ChildFailed):
        await run_until_told(start, stop, lambda _: None)
    assert steps == ["stopped"]


async def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    program = f"""
import asyncio, pathlib, sys
from triplane.adapters.embedded.child import ChildSpec
from triplane.adapters.embedded.run_folder import RunFolder
from triplane.adapters.embedded.supervisor import Supervisor

async def main():
    folder = RunFolder(pathlib.Path({str(tmp_path)!r}))
    folder.make()
    spec = ChildSpec(name="one", title="one", command=(sys.executable, "-S", "-c", {WAITS!r}))
    await Supervisor(folder, print).start(spec)
    pathlib.Path({str(sign)!r}).write_text("up")
    await asyncio.sleep(60)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    await until(sign.exists, within_s=15)
    child = psutil.Process(RunFolder(tmp_path).read_children()[0].pid)

    process.kill()
    await process.wait()

    gone, _ = await asyncio.to_thread(psutil.wait_procs, [child], 5)
    assert gone == [child]
