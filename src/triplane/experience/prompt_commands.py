"""What can be said at the prompt besides a question: commands that begin with a stroke."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

from triplane.domain.errors import InvalidRequest
from triplane.experience.chat_client import ChatClient
from triplane.experience.chat_objects import ConversationLine, Segment

HELP = """\
Type a message and press Enter. While an answer comes, Ctrl-C stops it.
  /new               begin a new conversation
  /list              your conversations; then /open NUMBER
  /open NUMBER       go on with one of them
  /search WORDS      find words in titles and messages; then /open NUMBER
  /again             answer the last question anew, beside the answer that there is
  /edit TEXT         ask something else in the place of the last question
  /continue          go on with an answer that was cut off
  /branches          the answers to the last question; /branch NUMBER shows one
  /model [NAME]      the models, or choose one
  /help              these lines
  /quit              leave (so does Ctrl-D)"""

LISTED = 15
_SHOWN = 4
_PREVIEW = 70

Say = Callable[[str], None]
Show = Callable[[AsyncGenerator[str, None]], Awaitable[None]]


@dataclass
class Prompt:
    """A conversation at the prompt. `say` tells the person, `show` streams an answer."""

    client: ChatClient
    say: Say
    show: Show
    _listed: list[str] = field(default_factory=list)

    async def obey(self, line: str) -> None:
        """Do what this line says: a command, or a question. Raises TriplaneError."""
        name, _, words = line.partition(" ")
        if not line.startswith("/"):
            await self.show(self.client.answer(line))
        elif command := _COMMANDS.get(name):
            await command(self, words.strip())
        else:
            self.say(HELP)

    async def open(self, conversation_id: str) -> None:
        """Go on with this conversation: its last messages, and the answer that may still come."""
        path = await self.client.open_conversation(conversation_id)
        for message in path[-_SHOWN:]:
            if message.status != "streaming":
                self.say(f"> {message.text}" if message.role == "user" else f"{message.text}\n")
        if path and path[-1].status == "streaming":
            await self.show(self.client.follow())
        elif path and path[-1].status in ("incomplete", "stopped"):
            self.say("(This answer was cut off; /continue goes on with it.)")

    async def _new(self, _: str) -> None:
        await self.client.begin_conversation()
        self.say("A new conversation.")

    async def _list(self, _: str) -> None:
        found = await self.client.recent(LISTED)
        self._listed = [line.id for line in found]
        for number, line in enumerate(found, 1):
            self.say(f"{number:3}  {when(line.updated_at)}  {title_of(line)}")
        if not found:
            self.say("There are no conversations yet.")

    async def _search(self, words: str) -> None:
        if not words:
            raise InvalidRequest("Say what to search for: /search WORDS")
        hits = await self.client.search(words, LISTED)
        self._listed = [hit.conversation_id for hit in hits]
        for number, hit in enumerate(hits, 1):
            self.say(f"{number:3}  {when(hit.updated_at)}  {marked(hit.title)}")
            if hit.snippet:
                self.say(f"       {marked(hit.snippet)}")
        if not hits:
            self.say("Nothing was found.")

    async def _open(self, words: str) -> None:
        number = _number(words, len(self._listed), "/list or /search first, then /open NUMBER")
        await self.open(self._listed[number])

    async def _again(self, _: str) -> None:
        await self.show(self.client.answer_again())

    async def _edit(self, words: str) -> None:
        if not words:
            raise InvalidRequest("Say what to ask instead: /edit TEXT")
        await self.show(self.client.edit(words))

    async def _continue(self, _: str) -> None:
        await self.show(self.client.go_on())

    async def _branches(self, _: str) -> None:
        beside, shown = await self.client.branches()
        for number, message in enumerate(beside):
            mark = "*" if number == shown else " "
            self.say(f"{mark}{number + 1:3}  {_preview(message.text)}")
        if not beside:
            self.say("There is no answer yet.")

    async def _branch(self, words: str) -> None:
        beside, _ = await self.client.branches()
        chosen = beside[_number(words, len(beside), "/branches shows them; then /branch NUMBER")]
        await self.client.choose(chosen)
        self.say(chosen.text)

    async def _model(self, words: str) -> None:
        models = await self.client.models()
        if words and words not in models:
            raise InvalidRequest(f"There is no model {words}. There are: {', '.join(models)}")
        self.client.model = words or self.client.model
        for model in models:
            self.say(f"{'*' if model == (self.client.model or models[0]) else ' '} {model}")


_COMMANDS: dict[str, Callable[[Prompt, str], Awaitable[None]]] = {
    "/new": Prompt._new,
    "/list": Prompt._list,
    "/open": Prompt._open,
    "/search": Prompt._search,
    "/again": Prompt._again,
    "/edit": Prompt._edit,
    "/continue": Prompt._continue,
    "/branches": Prompt._branches,
    "/branch": Prompt._branch,
    "/model": Prompt._model,
}
COMMANDS = [*_COMMANDS, "/help", "/quit"]


def when(at_s: int) -> str:
    """A time as a person at this machine reads it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))


def title_of(line: ConversationLine) -> str:
    return line.title or "(untitled)"


def marked(segments: list[Segment]) -> str:
    """A found text on one line, what was searched for between asterisks."""
    text = "".join(f"*{segment.text}*" if segment.hit else segment.text for segment in segments)
    return " ".join(text.split())


def _preview(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _PREVIEW else line[: _PREVIEW - 1] + "…"


def _number(words: str, count: int, how: str) -> int:
    if not words.isdecimal() or not 1 <= int(words) <= count:
        raise InvalidRequest(f"Give a number that is listed: {how}")
    return int(words) - 1
