"""What a server leaves behind for other commands and for its next start."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from triplane.adapters.embedded.run_folder import (
    ChildRecord,
    RunFolder,
    RunState,
    is_alive,
    start_time,
)

IGNORES_SIGTERM = (
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    made.make()
    return made


def record_of(process: "subprocess.Popen[bytes]", name: str = "child") -> ChildRecord:
    started = start_time(process.pid)
    assert started is not None
    return ChildRecord(name=name, pid=process.pid, started_at=started)


def test_the_state_of_a_living_server_is_read_back_and_private(folder: RunFolder) -> None:
    state = RunState(pid=os.getpid(), started_at=start_time(os.getpid()) or 0.0, url="http://127.0.0.1:1")

    folder.write_state(state)

    assert folder.read_state() == state
    assert stat.S_IMODE((folder.folder / "state.json").stat().st_mode) == 0o600


def test_the_state_of_a_dead_server_is_no_state(folder: RunFolder) -> None:
    folder.write_state(RunState(pid=os.getpid(), started_at=1.0, url="http://127.0.0.1:1"))

    assert folder.read_state() is None


def test_a_damaged_state_file_is_no_state(folder: RunFolder) -> None:
    (folder.folder / "state.json").write_text("{")

    assert folder.read_state() is None


def test_an_orphan_is_ended_even_if_it_ignores_the_polite_signal(folder: RunFolder) -> None:
    command = [sys.executable, "-c", IGNORES_SIGTERM]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        record = record_of(process)
        folder.write_children([record])

        ended = folder.end_orphans(timeout_s=0.2)

        assert ended == [record]
        assert not is_alive(record.pid, record.started_at)
    assert folder.read_children() == []


def test_a_process_that_got_an_orphans_number_is_left_alone(folder: RunFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        folder.write_children([ChildRecord(name="child", pid=process.pid, started_at=1.0)])

        ended = folder.end_orphans()

        assert ended == []
        assert process.poll() is None
        process.communicate(b"\n", timeout=10)


def test_a_zombie_does_not_live() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    started = start_time(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    alive = is_alive(process.pid, started or 0.0)
    process.wait()

    assert not alive


def test_the_last_three_logs_are_kept(folder: RunFolder) -> None:
    for number in range(5):
        folder.rotate_log("api-1")
        folder.log_file("api-1").write_text(f"run {number}\n")

    logs = {file.name: file.read_text() for file in folder.logs.iterdir()}

    assert logs == {
        "api-1.log": "run 4\n",
        "api-1.log.1": "run 3\n",
        "api-1.log.2": "run 2\n",
        "api-1.log.3": "run 1\n",
    }


def test_the_end_of_a_log_leaves_out_empty_lines(folder: RunFolder) -> None:
    folder.log_file("engine").write_text("one\n\ntwo\nthree\n\n")

    assert folder.last_lines("engine", 2) == ["two", "three"]
