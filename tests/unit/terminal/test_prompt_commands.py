"""The prompt's commands, without a server: what is refused before anything is asked."""

from collections.abc import AsyncGenerator

import pytest

from triplane.domain.errors import InvalidRequest
from triplane.experience.chat_client import ChatClient
from triplane.experience.chat_objects import Segment
from triplane.experience.prompt_commands import Prompt, marked


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def prompt(said: list[str]) -> Prompt:
    async def show(pieces: AsyncGenerator[str, None]) -> None:
        said.extend([piece async for piece in pieces])

    return Prompt(ChatClient("http://127.0.0.1:9", "tp-key"), said.append, show)


async def test_an_unknown_command_shows_what_there_is(prompt: Prompt, said: list[str]) -> None:
    await prompt.obey("/frobnicate")

    assert "/branches" in said[0]


@pytest.mark.parametrize("line", ["/open 1", "/open", "/open x", "/search", "/edit", "/again", "/continue"])
async def test_a_command_that_lacks_something_says_what(prompt: Prompt, line: str) -> None:
    with pytest.raises(InvalidRequest):
        await prompt.obey(line)


def test_what_was_found_is_marked_on_one_line() -> None:
    segments = [
        Segment("the\nold ", hit=False),
        Segment("lighthouse", hit=True),
        Segment(" stands", hit=False),
    ]

    assert marked(segments) == "the old *lighthouse* stands"
