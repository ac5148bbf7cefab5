"""The real engine for tests: the embedded llama.cpp process with SmolLM2, started once in a run.

The model file is kept between runs in `~/.cache/triplane-tests/models` (or TRIPLANE_TEST_MODELS_DIR).
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from triplane.adapters.embedded.llama_cpp import read_state
from triplane.inference.model_files import pull

MODEL_ID = "smollm2"
CONTEXT_LENGTH = 2048
PARALLEL = 4
START_S = 60.0

_PROGRAM = """
import sys
from pathlib import Path
from triplane.adapters.embedded.llama_cpp import EmbeddedEngineConfig, run_engine
model, run_dir, key, context, parallel = sys.argv[1:]
run_engine(EmbeddedEngineConfig(model_path=Path(model), model_id="smollm2", api_key=key,
    run_dir=Path(run_dir), context_length=int(context), parallel=int(parallel)))
"""


@dataclass(frozen=True)
class EngineServer:
    """A running engine. `url` ends in `/v1`."""

    url: str
    api_key: str
    model_path: Path
    model_id: str
    context_length: int
    pid: int


def models_dir() -> Path:
    chosen = os.environ.get("TRIPLANE_TEST_MODELS_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "triplane-tests" / "models"


@contextmanager
def running_engine(
    model_path: Path, run_dir: Path, context_length: int = CONTEXT_LENGTH, parallel: int = PARALLEL
) -> Iterator[EngineServer]:
    """An engine process of one's own, ended on leaving."""
    api_key = "engine-test-key"
    command = [sys.executable, "-c", _PROGRAM, str(model_path), str(run_dir), api_key]
    process = subprocess.Popen([*command, str(context_length), str(parallel)])
    try:
        url = _wait_for_address(run_dir, process)
        yield EngineServer(url, api_key, model_path, MODEL_ID, context_length, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_address(run_dir: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        state = read_state(run_dir)
        if state is not None:
            return state.url
        if process.poll() is not None:
            raise RuntimeError(f"The engine ended with status {process.returncode} before it listened.")
        time.sleep(0.05)
    raise RuntimeError(f"The engine didn't listen within {START_S} s.")


@pytest.fixture(scope="session")
def model_path() -> Path:
    return pull("smollm2", models_dir(), lambda _done, _total: None)


@pytest.fixture(scope="session")
def engine_server(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    with running_engine(model_path, tmp_path_factory.mktemp("engine")) as server:
        yield server
