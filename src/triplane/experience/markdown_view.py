"""Markdown in the terminal while it comes.

Finished blocks are printed for good, and only the block that grows is drawn anew. So the work for a token
doesn't grow with the answer, and what has scrolled away is never touched again.
"""

import re
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_REFRESHES_PER_S = 12


class MarkdownBlocks:
    """Splits a growing text into blocks at empty lines outside of code."""

    def __init__(self) -> None:
        self.rest = ""
        self._scanned = 0
        self._fence: str | None = None

    def add(self, piece: str) -> Iterator[str]:
        """Takes text in, gives the blocks that it finishes. `rest` is the block that still grows."""
        self.rest += piece
        while (end := self.rest.find("\n", self._scanned)) >= 0:
            line = self.rest[self._scanned : end]
            self._scanned = end + 1
            self._look_for_fence(line)
            if not line.strip() and self._fence is None:
                block, self.rest, self._scanned = self.rest[: end + 1], self.rest[end + 1 :], 0
                if block.strip():
                    yield block

    def _look_for_fence(self, line: str) -> None:
        found = _FENCE.match(line)
        if found is None:
            return
        marks = found.group(1)
        if self._fence is None:
            self._fence = marks
        elif marks[0] == self._fence[0] and len(marks) >= len(self._fence) and line.strip() == marks:
            self._fence = None


class MarkdownView:
    """Shows an answer on a console as it comes. Use it with `with`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._blocks = MarkdownBlocks()
        self._live = Live(console=console, transient=True, auto_refresh=False, vertical_overflow="visible")
        self._is_first = True
        self._drawn_at = 0.0

    def __enter__(self) -> "MarkdownView":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        rest = self._blocks.rest
        self._live.update("", refresh=True)
        self._live.stop()
        if rest.strip():
            self._print(rest)

    def write(self, piece: str) -> None:
        """Show this piece behind what there is."""
        for block in self._blocks.add(piece):
            self._live.update("")
            self._print(block)
        now = self._console.get_time()
        if now - self._drawn_at >= 1 / _REFRESHES_PER_S:
            self._drawn_at = now
            self._live.update(_Tail(self._blocks.rest), refresh=True)

    def _print(self, block: str) -> None:
        if not self._is_first:
            self._console.print()
        self._is_first = False
        self._console.print(Markdown(block))


class _Tail:
    """The last lines of a block, as many as the terminal can draw anew."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(Markdown(self._text), options.update(height=None), pad=False)
        for line in lines[-max(1, options.max_height - 2) :]:
            yield from line
            yield Segment.line()
