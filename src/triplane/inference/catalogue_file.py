"""`models.toml` while it is served: a changed file is served from the next second on, a broken one is not."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from triplane.inference.catalogue import Catalogue, CatalogueError, read_catalogue

LOOK_EVERY_S = 1.0

_log = structlog.get_logger(__name__)


async def follow_catalogue(file: Path, reload: Callable[[Catalogue], Awaitable[None]]) -> None:
    """Call `reload` with every new state of the file that can be used, for as long as the process lives.

    What can't be used is logged, once, and what was served before is served on.
    """
    served = _state(file)
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if (state := _state(file)) == served:
            continue
        served = state
        try:
            await reload(await asyncio.to_thread(read_catalogue, file))
            _log.info("catalogue reloaded", file=str(file))
        except CatalogueError as error:
            _log.error("catalogue not reloaded", reason=str(error))


def _state(file: Path) -> tuple[int, int] | None:
    """What changes when somebody writes the file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
