"""The bill: one line of JSON for each engine call, appended to a file by a thread.

Lines are written in batches, at most `WRITE_WITHIN_S` after a call's end. A graceful stop writes all of
them and syncs the file. SIGKILL loses what came within that time; a power cut also what the system hadn't put
on the disk yet. While the file can't be written (a full disk), lines wait, and `require_room` refuses new
requests once too many do: what can't be billed isn't served.
"""

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from triplane.domain.completion import CompletionRequest
from triplane.domain.embeddings import EmbeddingRequest
from triplane.domain.errors import StoreUnavailable
from triplane.domain.money import EngineCall

WRITE_WITHIN_S = 0.2
RETRY_S = 1.0
MAX_WAITING = 50_000
ROTATE_BYTES = 256 * 2**20

Outcome = Literal["complete", "failed", "cancelled"]

log = structlog.get_logger(__name__)


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """`at` is the call's end, in Unix seconds; `cost` in nano-dollars."""

    at: float
    request_id: str
    key: str | None
    tenant: str
    user: str
    plan: str
    model: str
    attempt: int
    route: str
    replica: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: int
    outcome: Outcome
    code: str | None


def usage_line(
    request: CompletionRequest | EmbeddingRequest,
    call: EngineCall,
    at: float,
    outcome: Outcome,
    code: str | None,
) -> UsageLine:
    flow, usage = request.flow, call.usage
    return UsageLine(
        at=at,
        request_id=request.request_id,
        key=flow.api_key,
        tenant=flow.tenant,
        user=flow.user,
        plan=flow.plan,
        model=request.model,
        attempt=call.attempt,
        route=call.route,
        replica=call.replica,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        cost=call.cost,
        outcome=outcome,
        code=code,
    )


class UsageLog:
    """Give it to one event loop. `close` writes what waits. Raises OSError if the file can't be opened."""

    def __init__(self, path: Path, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._file = _File(path, rotate_bytes)
        self._waiting: deque[UsageLine] = deque()
        self._thread = ThreadPoolExecutor(1, "usage-log")
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def require_room(self) -> None:
        """Raises StoreUnavailable while what is used can't be written down."""
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable("The gateway can't record usage now. Try again a little later.")

    def add(self, line: UsageLine) -> None:
        self._waiting.append(line)
        if self._timer is None and self._writing is None:
            self._write_in(WRITE_WITHIN_S)

    def reopen(self) -> None:
        """Go on in a new file, if something else has moved this one away."""
        self._thread.submit(self._file.reopen)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        if self._waiting and not await self._write_batch():
            log.error("usage is lost: its file can't be written", lines=len(self._waiting))
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown()

    def _write_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def _start(self) -> None:
        self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        done = await self._write_batch()
        self._writing = None
        if self._waiting and self._timer is None:
            self._write_in(WRITE_WITHIN_S if done else RETRY_S)

    async def _write_batch(self) -> bool:
        """Whether what waited is in the file now."""
        batch = list(self._waiting)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.append, batch)
        except OSError as error:
            log.error("usage can't be written", reason=error.strerror, waiting=len(self._waiting))
            return False
        for _ in batch:
            self._waiting.popleft()
        return True


class _File:
    """The file itself, used by one thread. A batch is in it wholly or not at all."""

    def __init__(self, path: Path, rotate_bytes: int) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._encoder = msgspec.json.Encoder()
        self._descriptor = self._open()

    def append(self, lines: list[UsageLine]) -> None:
        if os.fstat(self._descriptor).st_size >= self._rotate_bytes:
            self._rotate()
        data = memoryview(self._encoder.encode_lines(lines))
        before = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            os.ftruncate(self._descriptor, before)
            raise

    def reopen(self) -> None:
        self.close()
        self._descriptor = self._open()

    def close(self) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _rotate(self) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        self._path.rename(self._path.with_name(f"{self._path.name}.{stamp}"))
        self.reopen()
