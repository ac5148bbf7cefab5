"""What a running `triplane serve` leaves in its data folder: where things are, and which processes it owns.

`run/state.json` tells other commands where the servers are, `run/children.json` tells the next start which
processes to end if this one dies without a word. Both are for this user alone and replaced atomically.
"""

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from triplane.adapters.embedded.server_folder import EmbeddedServerError

_SAME_START_S = 2.0
"""How far two readings of one process's start may lie apart: the clock may have been set meanwhile."""

_ORPHAN_TIMEOUT_S = 8.0
_LOGS_KEPT = 3


class RunState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a running server's parts are. `ready` turns true once it takes requests."""

    pid: int
    started_at: float
    url: str
    ready: bool = False
    database_url: str | None = None
    redis_url: str | None = None
    engine_url: str | None = None
    engine_api_key: str | None = None


class ChildRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A process that was started, in terms that tell it from a later one with the same number."""

    name: str
    pid: int
    started_at: float
    stop_signal: int = signal.SIGTERM


def start_time(pid: int) -> float | None:
    """When the process started, in Unix seconds; None if there is none or it is a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def is_alive(pid: int, started_at: float) -> bool:
    """Whether this very process lives, not another that has been given its number."""
    found = start_time(pid)
    return found is not None and abs(found - started_at) < _SAME_START_S


class RunFolder:
    """`DATA_DIR/run` and `DATA_DIR/logs`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.folder = data_dir / "run"
        self.logs = data_dir / "logs"
        self._state = self.folder / "state.json"
        self._children = self.folder / "children.json"

    def make(self) -> None:
        """Raises EmbeddedServerError if this user may not write there."""
        try:
            for folder in (self.data_dir, self.folder, self.logs):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EmbeddedServerError(
                f"The data folder {self.data_dir} can't be made: {error.strerror}. Set TRIPLANE_DATA_DIR."
            ) from error
        if not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise EmbeddedServerError(
                f"The data folder {self.data_dir} can't be written to. Set TRIPLANE_DATA_DIR to another."
            )

    def read_state(self) -> RunState | None:
        """The state of a server that runs now; None if none does."""
        state = self.read_last_state()
        return state if state is not None and is_alive(state.pid, state.started_at) else None

    def read_last_state(self) -> RunState | None:
        """The state as it was last written, whether its server lives or not."""
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=RunState)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write_state(self, state: RunState) -> None:
        write_private(self._state, msgspec.json.format(msgspec.json.encode(state)))

    def clear_state(self) -> None:
        self._state.unlink(missing_ok=True)

    def write_children(self, records: Sequence[ChildRecord]) -> None:
        write_private(self._children, msgspec.json.encode(list(records)))

    def read_children(self) -> list[ChildRecord]:
        try:
            return msgspec.json.decode(self._children.read_bytes(), type=list[ChildRecord])
        except (FileNotFoundError, msgspec.DecodeError):
            return []

    def orphans(self) -> list[ChildRecord]:
        """The processes of an earlier server that still live. Meaningful while no server runs."""
        return [record for record in self.read_children() if is_alive(record.pid, record.started_at)]

    def end_orphans(self, timeout_s: float = _ORPHAN_TIMEOUT_S) -> list[ChildRecord]:
        """End what an earlier server left, last started first; blocks for seconds at most."""
        found = self.orphans()
        for record in reversed(found):
            _signal(record, record.stop_signal)
        processes = [process for record in found if (process := _process(record)) is not None]
        psutil.wait_procs(processes, timeout=timeout_s)
        for record in found:
            if is_alive(record.pid, record.started_at):
                _signal(record, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=_ORPHAN_TIMEOUT_S)
        self.write_children([])
        return found

    def log_file(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def rotate_log(self, name: str) -> None:
        """Make way for a new log; the last three are kept as NAME.log.1 to NAME.log.3."""
        log = self.log_file(name)
        if not log.exists() or log.stat().st_size == 0:
            return
        for number in range(_LOGS_KEPT - 1, 0, -1):
            older = log.with_name(f"{log.name}.{number}")
            if older.exists():
                older.replace(log.with_name(f"{log.name}.{number + 1}"))
        log.replace(log.with_name(f"{log.name}.1"))

    def last_lines(self, name: str, count: int = 5) -> list[str]:
        """The end of a child's log."""
        try:
            with self.log_file(name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
                lines = file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if line.strip()][-count:]


def write_private(path: Path, content: bytes) -> None:
    """Replace the file atomically; this user alone may read it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _process(record: ChildRecord) -> psutil.Process | None:
    try:
        return psutil.Process(record.pid)
    except psutil.NoSuchProcess:
        return None


def _signal(record: ChildRecord, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(record.pid, number)
