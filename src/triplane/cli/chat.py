"""`triplane chat`: finds the server and a key, then hands over to the terminal client."""

import asyncio
from pathlib import Path

import msgspec

from triplane.adapters.embedded.run_folder import RunFolder, write_private
from triplane.cli.errors import CommandFailed
from triplane.domain.errors import Unauthenticated
from triplane.experience.chat_client import ChatClient
from triplane.experience.terminal import ask_once, converse, question_of
from triplane.settings import Settings

_KEY_NAME = "terminal"


class ChatOptions(msgspec.Struct, frozen=True):
    """What the command line said."""

    words: str | None
    url: str | None
    key: str | None
    model: str | None
    max_tokens: int | None


def chat(settings: Settings, options: ChatOptions) -> None:
    """One question and its answer, or a prompt. Raises TriplaneError, CommandFailed."""
    question = question_of(options.words)
    if question is not None and not question.strip():
        raise CommandFailed('Nothing was asked. Write: triplane chat "your question"')
    server = options.url or _running_server(settings)
    if options.key is not None:
        return _talk(settings, options, question, server, options.key)
    if options.url is not None:
        raise CommandFailed("A server at --url needs a key: give --key, or set TRIPLANE_API_KEY.")
    try:
        return _talk(settings, options, question, server, _own_key(settings))
    except Unauthenticated:
        # The key was revoked, or the database is another one by now.
        key_file(settings).unlink()
        return _talk(settings, options, question, server, _own_key(settings))


def _talk(settings: Settings, options: ChatOptions, question: str | None, server: str, key: str) -> None:
    client = ChatClient(server, key, options.model, options.max_tokens)
    if question is None:
        converse(client, settings.data_dir / "chat_history")
    else:
        ask_once(client, question)


def _running_server(settings: Settings) -> str:
    state = RunFolder(settings.data_dir).read_state()
    if state is None:
        raise CommandFailed(
            "No server runs on this machine's data folder. Start `triplane serve`, or give --url and --key."
        )
    return state.url


def _own_key(settings: Settings) -> str:
    """The terminal's own key of the local server, made on first use."""
    file = key_file(settings)
    if not file.exists():
        from triplane.cli.accounts import create_key

        write_private(file, asyncio.run(create_key(settings, _KEY_NAME)).encode())
    return file.read_text().strip()


def key_file(settings: Settings) -> Path:
    return settings.data_dir / "run" / "cli.key"
