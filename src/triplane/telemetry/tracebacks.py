"""Exceptions as data for a log: types and places, without local variables or the values they quote."""

import traceback
from typing import Any

from triplane.domain.errors import TriplaneError

_MAX_FRAMES = 30
_MAX_LINKS = 8


def structured_traceback(failure: BaseException, *, shows_messages: bool) -> list[dict[str, Any]]:
    """The exception, then what caused it, and so on: each with its type and the frames it came through.

    Our own errors never carry text, so their messages are shown always, and those of the operating system
    too; others only with `shows_messages`.
    """
    links: list[dict[str, Any]] = []
    current: BaseException | None = failure
    while current is not None and len(links) < _MAX_LINKS:
        links.append(_link(current, shows_messages))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return links


def readable_traceback(links: list[dict[str, Any]]) -> str:
    """The same for a terminal."""
    lines: list[str] = []
    for link in links:
        lines.append(": ".join(part for part in (link["type"], link.get("message")) if part))
        lines += [f"  {frame}" for frame in link["frames"]]
        lines += [readable_traceback(part) for part in link.get("parts", [])]
    return "\n".join(lines)


def _link(failure: BaseException, shows_messages: bool) -> dict[str, Any]:
    link: dict[str, Any] = {"type": f"{type(failure).__module__}.{type(failure).__qualname__}"}
    if shows_messages or isinstance(failure, TriplaneError):
        link["message"] = str(failure)
    elif isinstance(failure, OSError) and failure.strerror:
        link["message"] = failure.strerror
    link["frames"] = _frames(failure)
    if isinstance(failure, BaseExceptionGroup):
        parts = failure.exceptions[:_MAX_LINKS]
        link["parts"] = [structured_traceback(part, shows_messages=shows_messages) for part in parts]
    return link


def _frames(failure: BaseException) -> list[str]:
    """The innermost frames, outermost first, as `file:line function`."""
    stack = traceback.StackSummary.extract(traceback.walk_tb(failure.__traceback__), lookup_lines=False)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack[-_MAX_FRAMES:]]
