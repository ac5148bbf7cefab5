"""`triplane chat`: finds the server and a key, then hands over to the terminal client."""

import asyncio
from pathlib import Path

from triplane.adapters.embedded.run_folder import RunFolder, write_private
from triplane.cli.errors import CommandFailed
from triplane.domain.errors import Unauthenticated
from triplane.experience.chat_client import ChatClient
from triplane.experience.terminal import ask_once, converse, question_of
from triplane.settings import Settings

_KEY_NAME = "terminal"


def chat(settings: Settings, words: str | None, url: str | None, key: str | None, model: str | None) -> None:
    """One question and its answer, or a prompt. Raises TriplaneError, CommandFailed."""
    question = question_of(words)
    if question is not None and not question.strip():
        raise CommandFailed('Nothing was asked. Write: triplane chat "your question"')
    server = url or _running_server(settings)
    if key is not None:
        return _talk(settings, question, ChatClient(server, key, model))
    if url is not None:
        raise CommandFailed("A server at --url needs a key: give --key, or set TRIPLANE_API_KEY.")
    try:
        return _talk(settings, question, ChatClient(server, _own_key(settings), model))
    except Unauthenticated:
        # The key was revoked, or the database is another one by now.
        key_file(settings).unlink()
        return _talk(settings, question, ChatClient(server, _own_key(settings), model))


def _talk(settings: Settings, question: str | None, client: ChatClient) -> None:
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
