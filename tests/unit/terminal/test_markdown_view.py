"""Markdown as it comes: which blocks are finished, and what stands on the screen in the end."""

import io
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from triplane.experience.markdown_view import MarkdownBlocks, MarkdownView

ANSWER = """# Title

Some *words* in a paragraph
that goes on.

```python
print("one")

print("two")
```

- first
- second

| a | b |
|---|---|
| 1 | 2 |

The end."""


def blocks_of(pieces: list[str]) -> list[str]:
    splitting = MarkdownBlocks()
    found = [block for piece in pieces for block in splitting.add(piece)]
    return [*found, splitting.rest]


def test_an_empty_line_ends_a_block_but_not_within_code() -> None:
    blocks = blocks_of([ANSWER])

    assert [block.split("\n")[0] for block in blocks] == [
        "# Title",
        "Some *words* in a paragraph",
        "```python",
        "- first",
        "| a | b |",
        "The end.",
    ]


@given(st.lists(st.integers(0, len(ANSWER)), max_size=12))
def test_the_blocks_are_the_same_however_the_text_comes(cuts: list[int]) -> None:
    at = [0, *sorted(cuts), len(ANSWER)]
    pieces = [ANSWER[start:end] for start, end in pairwise(at)]

    assert blocks_of(pieces) == blocks_of([ANSWER])


@given(st.lists(st.text(alphabet="a`~ \n#-|", max_size=8), max_size=20))
def test_no_character_is_lost_or_doubled(pieces: list[str]) -> None:
    splitting = MarkdownBlocks()
    blocks = [block for piece in pieces for block in splitting.add(piece)]

    shown = "".join([*blocks, splitting.rest])

    assert shown.replace("\n", "").replace(" ", "") == "".join(pieces).replace("\n", "").replace(" ", "")


def test_an_answer_stands_rendered_on_the_screen() -> None:
    screen = io.StringIO()
    with MarkdownView(
        Console(file=screen, force_terminal=True, width=60, height=20, color_system=None)
    ) as view:
        for at in range(0, len(ANSWER), 7):
            view.write(ANSWER[at : at + 7])

    shown = screen.getvalue()

    assert "• first" in shown
    assert "The end." in shown.splitlines()[-1]
    assert "```" not in shown.splitlines()[-1]


def test_a_block_taller_than_the_screen_is_drawn_by_its_last_lines() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=40, height=8, color_system=None)
    with MarkdownView(console) as view:
        view.write("```\n" + "\n".join(f"line {number}" for number in range(50)))
        drawn = screen.getvalue()

    assert "line 49" in drawn
    assert "line 10" not in drawn
    assert "line 10" in screen.getvalue()
