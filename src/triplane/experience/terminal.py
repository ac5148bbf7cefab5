"""The terminal client: one question and its answer, or a conversation at a prompt.

The answer alone goes to standard output, so that it can be piped; all else goes to standard error.
"""

import asyncio
import contextlib
import readline
import select
import sys
from collections.abc import Iterator
from pathlib import Path

from triplane.domain.errors import TriplaneError
from triplane.experience.chat_client import ChatClient

_HISTORY_LENGTH = 1000
_STOP_TIMEOUT_S = 5.0
_PATIENCE_S = (1.0, 9.0)
_HELP = """\
Type a message and press Enter. While an answer comes, Ctrl-C stops it.
  /new    begin a new conversation
  /help   these lines
  /quit   leave (so does Ctrl-D)"""


def question_of(words: str | None) -> str | None:
    """The question of the command line with what is piped in behind it; None to ask at a prompt."""
    if sys.stdin.isatty():
        return words
    parts = [part for part in (words or "", _piped(wait_for_ever=not words).strip("\n")) if part.strip()]
    return "\n\n".join(parts)


def _piped(wait_for_ever: bool) -> str:
    """All of standard input. A pipe that stays silent beside a question is left alone, and that is said:
    a program that starts us may hold one open without ever writing to it."""
    unsaid_s, said_s = _PATIENCE_S
    if not wait_for_ever and not _readable_within(unsaid_s):
        _say(f"Waiting up to {said_s:.0f} s for standard input …")
        if not _readable_within(said_s):
            _say("Nothing came: asking without it.")
            return ""
    return sys.stdin.read()


def _readable_within(seconds: float) -> bool:
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def ask_once(client: ChatClient, question: str) -> None:
    """Stream one answer to standard output. Raises TriplaneError, KeyboardInterrupt."""

    async def ask() -> None:
        async with client:
            await _print_answer(client, question)

    asyncio.run(ask())


def converse(client: ChatClient, history: Path) -> None:
    """A conversation at a prompt, until /quit or Ctrl-D. Raises TriplaneError if it can't begin."""
    with _line_editing(history), asyncio.Runner() as runner:
        try:
            runner.run(client.begin_conversation())
            _say("Type a message. /help says what else there is.")
            while (line := _read_line()) is not None:
                if line.strip() == "/quit":
                    break
                _obey(line.strip(), client, runner)
        finally:
            runner.run(client.__aexit__())


def _obey(line: str, client: ChatClient, runner: asyncio.Runner) -> None:
    try:
        if line == "/new":
            runner.run(client.begin_conversation())
            _say("A new conversation.")
        elif line.startswith("/"):
            _say(_HELP)
        elif line:
            runner.run(_answer_or_stop(client, line))
    except KeyboardInterrupt:
        _say("\n(stopped)")
    except TriplaneError as error:
        _say(error.message)


async def _answer_or_stop(client: ChatClient, line: str) -> None:
    """Print the answer; when Ctrl-C cancels this, tell the server to stop too."""
    try:
        await _print_answer(client, line)
    except asyncio.CancelledError:
        with contextlib.suppress(TriplaneError, TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await client.stop_answer()
        raise


async def _print_answer(client: ChatClient, question: str) -> None:
    pieces = client.answer(question)
    last = "\n"
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
            last = piece
    if not last.endswith("\n"):
        sys.stdout.write("\n")
        sys.stdout.flush()


def _read_line() -> str | None:
    """A line from the prompt; None at the end. Ctrl-C drops the line that is being typed."""
    while True:
        try:
            return input("> ")
        except KeyboardInterrupt:
            _say("\n(/quit or Ctrl-D leaves)")
        except EOFError:
            _say("")
            return None


@contextlib.contextmanager
def _line_editing(history: Path) -> Iterator[None]:
    """Arrow keys and a history that is kept for this user alone."""
    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(_HISTORY_LENGTH)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            history.touch(mode=0o600)
            readline.write_history_file(history)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
