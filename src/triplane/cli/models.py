"""Model files of the embedded engine, as commands and `triplane serve` want them."""

import sys
from collections.abc import Callable
from pathlib import Path

from triplane.cli.errors import CommandFailed
from triplane.inference.catalogue import CatalogueError, read_catalogue
from triplane.inference.model_files import ModelFileError, Progress, pull
from triplane.settings import Settings

_MEGABYTE = 1_000_000


def model_file(settings: Settings, say: Callable[[str], None]) -> Path:
    """The file that the embedded engine is to load, fetched if it isn't here. Raises CommandFailed."""
    own = settings.engine.model_file
    if own is not None:
        if not own.is_file():
            raise CommandFailed(f"TRIPLANE_MODEL_FILE is {own}: there is no such file.")
        return own
    try:
        return pull(settings.engine.model, settings.models_dir, progress_lines(settings.engine.model, say))
    except ModelFileError as error:
        raise CommandFailed(f"{error} TRIPLANE_MODEL_FILE may name a GGUF file of yours.") from error


def uses_embedded_engine(settings: Settings) -> bool:
    """Whether anything is served by it: without a catalogue everything is. Raises CommandFailed."""
    if settings.catalogue is None:
        return True
    try:
        return read_catalogue(settings.catalogue).uses_embedded
    except CatalogueError as error:
        raise CommandFailed(str(error)) from error


def pull_model(settings: Settings, name: str) -> Path:
    """Raises CommandFailed."""
    try:
        return pull(name, settings.models_dir, progress_lines(name, _to_stderr))
    except ModelFileError as error:
        raise CommandFailed(str(error)) from error


def progress_lines(name: str, say: Callable[[str], None]) -> Progress:
    """Says how far a download is: a line for each tenth."""
    said = -1

    def progress(done: int, total: int | None) -> None:
        nonlocal said
        tenth = done * 10 // total if total else done // (50 * _MEGABYTE)
        if tenth == said:
            return
        said = tenth
        of_all = f" of {total // _MEGABYTE} MB" if total else " MB"
        say(f"Fetching the model {name}: {done // _MEGABYTE}{of_all}")

    return progress


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
