"""`triplane chat`: finds the server and a key, then hands over to the terminal client."""

import sys

import msgspec

from triplane.cli.errors import CommandFailed
from triplane.cli.reaching import with_server
from triplane.experience.chat_client import ChatClient
from triplane.experience.terminal import (
    Look,
    ask_once,
    converse,
    latest_conversation,
    list_hits,
    question_of,
)
from triplane.settings import Settings


class ChatOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line said."""

    words: str | None
    url: str | None
    key: str | None
    model: str | None
    max_tokens: int | None
    conversation: str | None
    resume: bool
    search: str | None
    as_json: bool
    plain: bool


def chat(settings: Settings, options: ChatOptions) -> None:
    """One question and its answer, a search, or a prompt. Raises TriplaneError, CommandFailed."""
    if options.search is not None:
        with_server(settings, options.url, options.key, lambda server, key: _search(server, key, options))
        return
    question = question_of(options.words)
    if question is not None and not question.strip():
        raise CommandFailed('Nothing was asked. Write: triplane chat "your question"')
    if question is None and options.as_json:
        raise CommandFailed('--json answers one question. Write: triplane chat --json "your question"')

    def talk(server: str, key: str) -> None:
        resumed = options.conversation
        if options.resume and resumed is None:
            resumed = latest_conversation(ChatClient(server, key))
        client = ChatClient(server, key, options.model, options.max_tokens, resumed)
        if question is None:
            converse(client, settings.data_dir / "chat_history", _look(options), resumed)
        else:
            ask_once(client, question, _look(options))

    with_server(settings, options.url, options.key, talk)


def _search(server: str, key: str, options: ChatOptions) -> None:
    list_hits(ChatClient(server, key), options.search or "", _look(options))


def _look(options: ChatOptions) -> Look:
    if options.as_json:
        return "json"
    return "markdown" if sys.stdout.isatty() and not options.plain else "plain"
