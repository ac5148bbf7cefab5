"""What the simulated engine answers: made-up text, the same for the same prompt on every replica.

The text follows from the prompt (and the seed, if one is given) alone, never from how much of it is asked
for: a shorter answer is the beginning of a longer one, and an answer that is continued from any of its
prefixes goes on with exactly the rest. So a test can tell whether text was lost or repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import exp, log
from random import Random
from typing import Literal

from triplane.inference.simulated_engine.tokens import tokenize

Reason = Literal["stop", "length", "tool_calls"]

SHORTEST, LONGEST = 64, 512
"""Tokens of an answer that nothing cuts short, its end included."""

_SENTENCE = 12
_WORDS = (
    "amber anchor apple autumn basin beacon birch bridge canyon carbon cedar chalk cinder cloud cobalt "
    "copper coral cotton crane crater delta desert dune ember falcon fern field fjord flint forest garden "
    "glass gravel grove harbor hazel heron hollow island ivory jade jasper juniper kelp lagoon lake "
    "lantern larch laurel linen lotus maple marble marsh meadow mesa mirror mist moon moss nectar night "
    "north oak oasis ocean olive onyx opal orchid otter owl paper pearl pebble pine planet plum pollen "
    "pond prism quartz quiet rain raven reed ridge river robin saddle sage salt sand shadow shore silver "
    "slate snow spring spruce star stone storm summer swan thorn tide timber topaz tundra valley velvet "
    "violet walnut water wave wheat willow wind winter wolf wren café señor über façade ночь 東京 春 σοφία "
    "🙂 🌲"
)
_VOCABULARY = [word for word in _WORDS.split() if len(tokenize(f" {word}")) == 1]


@dataclass(frozen=True)
class Answer:
    """Its tokens, and why it ends. A last token without text is the one that ends the message."""

    tokens: list[str]
    reason: Reason


def answer_seed(prompt: Sequence[str], seed: int | None) -> int:
    """What all of an answer follows from."""
    digest = blake2b("\0".join(prompt).encode(), digest_size=8)
    if seed is not None:
        digest.update(b"%d" % seed)
    return int.from_bytes(digest.digest(), "big")


def natural_length(seed: int) -> int:
    """The tokens of the whole answer: short ones are more frequent, as in a chat."""
    return round(SHORTEST * exp(log(LONGEST / SHORTEST) * Random(seed).random()))


def words(seed: int, count: int) -> list[str]:
    """The first `count` tokens of the endless text of this seed."""
    chosen = Random(seed).choices(_VOCABULARY, k=count)
    for index in range(count):
        place = index % _SENTENCE
        if place == _SENTENCE - 1:
            chosen[index] = "."
        elif place:
            chosen[index] = " " + chosen[index]
        else:
            chosen[index] = (" " if index else "") + chosen[index].capitalize()
    return chosen


@dataclass(frozen=True)
class Wanted:
    """How much is asked for. `most` counts tokens of this answer, not of the text that it continues."""

    most: int
    least: int = 0
    is_endless: bool = False
    stop: Sequence[str] = ()
    begun: str = ""
    length: int | None = None


def plan(seed: int, wanted: Wanted) -> Answer:
    """The text that answers, or that goes on behind `wanted.begun`."""
    begun = len(tokenize(wanted.begun))
    whole = natural_length(seed) if wanted.length is None else wanted.length
    whole = max(whole - 1, begun + wanted.least)
    count = begun + wanted.most if wanted.is_endless else whole
    # One token more than was counted: what was begun may have been cut within a word.
    text = "".join(words(seed, count + 1 if wanted.is_endless else count))
    if text.startswith(wanted.begun):
        rest = text[len(wanted.begun) :]
    else:
        # Someone else began it: what goes on depends on that text too.
        other = answer_seed([str(seed), wanted.begun], None)
        rest = " " + "".join(words(other, max(1, count - begun)))
    return _cut(tokenize(rest), wanted)


def of_text(text: str, reason: Reason, wanted: Wanted) -> Answer:
    """A given text (JSON, a tool's arguments) as an answer."""
    answer = _cut(tokenize(text), wanted)
    return Answer(answer.tokens, reason) if answer.reason == "stop" else answer


def _cut(tokens: list[str], wanted: Wanted) -> Answer:
    """Cut at a stop sequence, or at the most tokens, whichever comes first; else it ends by itself."""
    stopped = _before_stop(tokens, wanted.stop)
    whole = [*tokens, ""] if stopped is None else stopped
    if len(whole) > wanted.most or (wanted.is_endless and stopped is None):
        return Answer(whole[: wanted.most], "length")
    return Answer(whole, "stop")


def _before_stop(tokens: list[str], stop: Sequence[str]) -> list[str] | None:
    """The tokens up to the one that completes a stop sequence, their text cut before it."""
    if not stop:
        return None
    text = "".join(tokens)
    found = [(at, at + len(word)) for word in stop if (at := text.find(word)) >= 0]
    if not found:
        return None
    shown = min(at for at, _ in found)
    end = min(end for at, end in found if at == shown)
    kept: list[str] = []
    start = 0
    for token in tokens:
        kept.append(token[: max(0, shown - start)])
        start += len(token)
        if start >= end:
            break
    return kept
