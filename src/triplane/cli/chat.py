"""`triplane chat`: finds the server and a key, then hands over to the terminal client."""

import msgspec

from triplane.cli.errors import CommandFailed
from triplane.cli.reaching import with_server
from triplane.experience.chat_client import ChatClient
from triplane.experience.terminal import ask_once, converse, question_of
from triplane.settings import Settings


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

    def talk(server: str, key: str) -> None:
        client = ChatClient(server, key, options.model, options.max_tokens)
        if question is None:
            converse(client, settings.data_dir / "chat_history")
        else:
            ask_once(client, question)

    with_server(settings, options.url, options.key, talk)
