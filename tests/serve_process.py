"""`triplane serve` as a person runs it: the real program in a data folder of its own."""

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from engine_fixture import models_dir

TRIPLANE = Path(sys.executable).with_name("triplane")
READY = re.compile(r"Triplane is ready: (?P<url>http://\S+)")
LINK = re.compile(r"Sign in once: (?P<link>http://\S+/sign-in\?token=\S+)")
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0


@contextmanager
def data_folder() -> Iterator[Path]:
    """An empty data folder. Not pytest's own, which is closed to the user that PostgreSQL runs as."""
    folder = Path(tempfile.mkdtemp(prefix="triplane-journey-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def environment_of(data_dir: Path, **more: str) -> dict[str, str]:
    """This environment without what a developer may have set, for a server of this data folder."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TRIPLANE_", "OTEL_"))}
    places = {"TRIPLANE_DATA_DIR": str(data_dir), "TRIPLANE_MODELS_DIR": str(models_dir())}
    return {**own, **places, "TRIPLANE_PORT": "0", **more}


def run_triplane(
    data_dir: Path, *words: str, stdin: str | None = None, timeout_s: float = 90.0, **more: str
) -> "subprocess.CompletedProcess[str]":
    """One command of the program, to its end."""
    return subprocess.run(
        [TRIPLANE, *words],
        env=environment_of(data_dir, **more),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class ServeProcess:
    """A `triplane serve` that runs. `lines` are what it has said so far."""

    def __init__(self, data_dir: Path, more: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [TRIPLANE, "serve"],
            env=environment_of(data_dir, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._family: list[psutil.Process] = []
        self._key: str | None = None

    @property
    def url(self) -> str:
        return self._said(READY)["url"]

    @property
    def sign_in_link(self) -> str:
        return self._said(LINK)["link"]

    @property
    def key(self) -> str:
        """An API key of the first administrator."""
        if self._key is None:
            made = run_triplane(self.data_dir, "keys", "create", "journey")
            assert made.returncode == 0, made.stderr
            self._key = made.stdout.strip()
        return self._key

    def wait_ready(self) -> None:
        """Wait for the address and the link."""
        self.wait_for(READY)
        self.wait_for(LINK)
        self._family = self.family()

    def wait_for(self, pattern: "re.Pattern[str]", timeout_s: float = START_TIMEOUT_S) -> "re.Match[str]":
        """The first line, said or to come, that has the pattern."""
        deadline = time.monotonic() + timeout_s
        for line in self.lines:
            if found := pattern.search(line):
                return found
        while True:
            said = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            assert said is not None, f"triplane serve ended:\n{''.join(self.lines)}"
            if found := pattern.search(said):
                return found

    def family(self) -> list[psutil.Process]:
        """Every process that it has started."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def interrupt(self) -> None:
        """Ctrl-C; returns once it has ended."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def survivors(self, timeout_s: float = 10.0) -> list[psutil.Process]:
        """The processes it had started that still live after a while."""
        alive: list[psutil.Process] = psutil.wait_procs(self._family, timeout=timeout_s)[1]
        return alive

    def close(self) -> None:
        if self.process.poll() is None:
            self.interrupt()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _said(self, pattern: "re.Pattern[str]") -> "re.Match[str]":
        return next(found for line in self.lines if (found := pattern.search(line)))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._queue.put(line)
        self._queue.put(None)


@contextmanager
def serving(data_dir: Path, **more: str) -> Iterator[ServeProcess]:
    """A server that is ready, and is stopped at the end if it still runs."""
    server = ServeProcess(data_dir, more)
    try:
        server.wait_ready()
        yield server
    finally:
        server.close()
