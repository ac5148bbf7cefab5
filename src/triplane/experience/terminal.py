"""The terminal client: one question and its answer, or a conversation at a prompt.

The answer alone goes to standard output, so that it can be piped; all else goes to standard error.
"""

import asyncio
import contextlib
import readline
import select
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Literal

import msgspec
from rich.console import Console

from triplane.domain.errors import NotFound, TriplaneError
from triplane.experience.chat_client import ChatClient
from triplane.experience.chat_objects import ConversationLine, Hit
from triplane.experience.markdown_view import MarkdownView
from triplane.experience.prompt_commands import COMMANDS, Prompt, marked, when

Look = Literal["plain", "markdown", "json"]
"""How answers look: as they are, rendered for a person, or as JSON for a program."""

_HISTORY_LENGTH = 1000
_HITS = 20
_STOP_TIMEOUT_S = 5.0
_PATIENCE_S = (1.0, 9.0)


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


def ask_once(client: ChatClient, question: str, look: Look) -> None:
    """Stream one answer to standard output. Raises TriplaneError, KeyboardInterrupt."""

    async def ask() -> None:
        async with client:
            if look == "json":
                await _answer_for_script(client, question)
            else:
                await _show(client.answer(question), look)

    asyncio.run(ask())


def converse(client: ChatClient, history: Path, look: Look, resumed: str | None) -> None:
    """A conversation at a prompt, until /quit or Ctrl-D; `resumed`: the one to go on with.

    Raises TriplaneError if it can't begin.
    """

    async def show(pieces: AsyncGenerator[str, None]) -> None:
        await _show(pieces, look)

    prompt = Prompt(client, _say, show)
    with _line_editing(history), asyncio.Runner() as runner:
        try:
            runner.run(prompt.open(resumed) if resumed else client.begin_conversation())
            _say("Type a message. /help says what else there is.")
            while (line := _read_line()) is not None:
                if line.strip() == "/quit":
                    break
                if line.strip():
                    _obey(line.strip(), prompt, runner)
        finally:
            runner.run(client.__aexit__())


def list_hits(client: ChatClient, words: str, look: Look) -> None:
    """Print what a search found. Raises TriplaneError."""

    async def search() -> list[Hit]:
        async with client:
            return await client.search(words, _HITS)

    for hit in asyncio.run(search()):
        if look == "json":
            sys.stdout.write(msgspec.json.encode(hit).decode() + "\n")
        else:
            sys.stdout.write(f"{hit.conversation_id}  {when(hit.updated_at)}  {marked(hit.title)}\n")
            if hit.snippet:
                sys.stdout.write(f"    {marked(hit.snippet)}\n")


def latest_conversation(client: ChatClient) -> str:
    """The conversation with the newest activity. Raises NotFound, TriplaneError."""

    async def find() -> list[ConversationLine]:
        async with client:
            return await client.recent(1)

    found = asyncio.run(find())
    if not found:
        raise NotFound("There is no conversation yet that could be resumed.")
    return found[0].id


async def _answer_for_script(client: ChatClient, question: str) -> None:
    """One line of JSON: the answer and how it ended."""
    answer = "".join([piece async for piece in client.answer(question)])
    outcome = msgspec.to_builtins(client.outcome)
    sys.stdout.write(msgspec.json.encode({"answer": answer, **outcome}).decode() + "\n")


def _obey(line: str, prompt: Prompt, runner: asyncio.Runner) -> None:
    try:
        runner.run(_obey_or_stop(line, prompt))
    except KeyboardInterrupt:
        _say("\n(stopped)")
    except TriplaneError as error:
        _say(error.message)


async def _obey_or_stop(line: str, prompt: Prompt) -> None:
    """Do what the line says; when Ctrl-C cancels this, tell the server to stop too."""
    try:
        await prompt.obey(line)
    except asyncio.CancelledError:
        with contextlib.suppress(TriplaneError, TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await prompt.client.stop_answer()
        raise


async def _show(pieces: AsyncGenerator[str, None], look: Look) -> None:
    """Stream an answer to standard output: rendered for a person, as it is for a program."""
    async with contextlib.aclosing(pieces):
        if look == "markdown":
            with MarkdownView(Console()) as view:
                async for piece in pieces:
                    view.write(piece)
            return
        last = "\n"
        async for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
            last = piece or last
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
    readline.set_completer(_completed)
    readline.set_completer_delims("")
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            history.touch(mode=0o600)
            readline.write_history_file(history)


def _completed(begun: str, nth: int) -> str | None:
    """The nth command that begins so; none for a question."""
    fitting = [command for command in COMMANDS if begun.startswith("/") and command.startswith(begun)]
    return fitting[nth] if nth < len(fitting) else None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
