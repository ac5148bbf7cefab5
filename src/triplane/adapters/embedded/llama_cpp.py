"""The embedded engine: llama.cpp's own server in this process, for one machine.

`run_engine` is the whole life of the process that `triplane engine` is. It listens on loopback unless told
otherwise, asks for a key on every route but `/health`, and shows no page. A small batch keeps a long
prompt interruptible: a cancelled prefill ends with the batch that is being computed, and the streams that
run beside it wait no longer than that.
"""

import asyncio
import ctypes
import importlib
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

BATCH_TOKENS = 64
PARENT_POLL_S = 0.5
READY_POLL_S = 0.1
PR_SET_PDEATHSIG = 1
SPIN_COUNT = "0"
STATE_FILE = "engine.json"


class EngineNotReadyError(Exception):
    """The engine didn't come up in time; the message says what it answered last."""


class NativeLibraryError(Exception):
    """llama.cpp's library can't be loaded on this machine; the message says what is missing."""


class EmbeddedEngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`port` 0 takes a free one. `run_dir` gets `engine.json`, which says where the engine listens.

    `context_length` is tokens for one of the `parallel` streams. `threads` 0 leaves it to the engine.
    """

    model_path: Path
    model_id: str
    api_key: str
    run_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    context_length: int = 8192
    parallel: int = 4
    threads: int = 0
    dies_with_parent: bool = True
    native_logs: bool = False

    def __post_init__(self) -> None:
        if not self.api_key:
            raise ValueError("The engine doesn't listen without a key.")


class EngineState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running engine listens. `url` is the base of its OpenAI wire and ends in `/v1`."""

    url: str
    pid: int
    model_id: str


def run_engine(config: EmbeddedEngineConfig) -> None:
    """Serve until SIGTERM, SIGINT or the parent's death.

    Raises FileNotFoundError without the model file, NativeLibraryError if llama.cpp can't be loaded.
    """
    if not config.model_path.is_file():
        raise FileNotFoundError(config.model_path)
    parent = os.getppid()
    if config.dies_with_parent:
        _die_with_parent(parent)
    state_path = config.run_dir / STATE_FILE
    config.run_dir.mkdir(parents=True, exist_ok=True)
    state_path.unlink(missing_ok=True)
    native = _load_native()
    server = native.Server(_parameters(config, native))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    url = f"{server.listening_address}/v1"
    _write_atomically(state_path, EngineState(url=url, pid=os.getpid(), model_id=config.model_id))
    while not stop.wait(PARENT_POLL_S):
        if config.dies_with_parent and os.getppid() != parent:
            break
    state_path.unlink(missing_ok=True)
    _leave_at_once()


def read_state(run_dir: Path) -> EngineState | None:
    """What the engine of this folder wrote; None if none has come up. The process may be dead since."""
    try:
        return msgspec.json.decode((run_dir / STATE_FILE).read_bytes(), type=EngineState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


async def wait_until_ready(url: str, api_key: str, timeout_s: float) -> None:
    """Return when the engine at `url` (it ends in `/v1`) serves its model. Raises EngineNotReadyError."""
    last = "nothing listens there"
    headers = {"Authorization": f"Bearer {api_key}"}
    try:
        async with asyncio.timeout(timeout_s), aiohttp.ClientSession(headers=headers) as session:
            while True:
                try:
                    async with session.get(f"{url}/models") as response:
                        if response.status == 200:
                            return
                        last = f"it answers with status {response.status}"
                        if response.status == 401:
                            break
                except aiohttp.ClientError:
                    last = "nothing listens there"
                await asyncio.sleep(READY_POLL_S)
    except TimeoutError:
        pass
    raise EngineNotReadyError(f"The engine at {url} isn't ready: {last}.")


def _load_native() -> Any:
    """llama.cpp's library, loaded only where it runs.

    Its threads wait for one another hundreds of times a token, spinning. When another process takes one of
    their cores, the others would spin away whole time slices (measured on two busy cores: 2 tokens/s in
    place of 14), so they are told to sleep; an operator's own GOMP_SPINCOUNT wins. That has to be said
    before the library is loaded.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    try:
        return importlib.import_module("xllamacpp")
    except ImportError as error:
        raise NativeLibraryError(
            f"llama.cpp can't be loaded: {error}. On Debian or Ubuntu, `apt install libgomp1` may help."
        ) from error


def _parameters(config: EmbeddedEngineConfig, native: Any) -> Any:
    params = native.CommonParams()
    params.model.path = str(config.model_path)
    params.model_alias = {config.model_id}
    params.hostnames = [config.host]
    params.port = config.port
    params.api_keys = [config.api_key]
    params.ui = False
    params.endpoint_slots = True
    params.endpoint_metrics = True
    params.n_parallel = config.parallel
    params.n_ctx = config.context_length * config.parallel
    params.n_batch = max(BATCH_TOKENS, config.parallel)
    params.n_ubatch = params.n_batch
    params.cache_ram_mib = 0
    params.prefill_assistant = False
    # A text's vector is its last token's state: that alone lets a text be longer than a batch.
    params.embedding = True
    params.pooling_type = native.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
    params.n_threads_http = config.parallel + 8
    if config.threads:
        params.cpuparams.n_threads = config.threads
        params.cpuparams_batch.n_threads = config.threads
    if not config.native_logs:
        params.verbosity = -1
    return params


def _die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends; elsewhere than on Linux, polling does."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _write_atomically(path: Path, state: EngineState) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(msgspec.json.encode(state))
    Path(file.name).replace(path)


def _leave_at_once() -> None:
    """Skip the server's destructor, which waits for running streams; nothing here needs saving."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
