"""The made-up answers: that a continuation is exactly the rest is what tests of the gateway stand on."""

import json
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from triplane.inference.simulated_engine.answers import Wanted, answer_seed, natural_length, plan
from triplane.inference.simulated_engine.json_examples import example
from triplane.inference.simulated_engine.tokens import WireMessage, prompt_tokens, tokenize

seeds = st.integers(0, 2**64 - 1)


@given(text=st.text())
def test_the_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text


@settings(max_examples=100, deadline=None)
@given(seed=seeds, data=st.data(), endless=st.booleans())
def test_a_continuation_from_anywhere_is_exactly_the_rest(
    seed: int, data: st.DataObject, endless: bool
) -> None:
    most = data.draw(st.integers(1, 300))
    whole = "".join(plan(seed, Wanted(most=most, is_endless=endless)).tokens)
    begun = whole[: data.draw(st.integers(0, len(whole)))]
    left = most - len(tokenize(begun))

    rest = plan(seed, Wanted(most=left + 1, is_endless=endless, begun=begun))

    assert (begun + "".join(rest.tokens)).startswith(whole)


@given(seed=seeds)
def test_an_answer_that_nothing_cuts_ends_with_a_token_without_text(seed: int) -> None:
    answer = plan(seed, Wanted(most=10_000))

    assert answer.reason == "stop"
    assert len(answer.tokens) == natural_length(seed)
    assert answer.tokens[-1] == ""
    assert "" not in answer.tokens[:-1]


@given(seed=seeds)
def test_an_answer_has_the_same_tokens_in_the_next_prompt(seed: int) -> None:
    question = WireMessage("user", "Well?")
    answer = plan(seed, Wanted(most=10_000))
    said = WireMessage("assistant", "".join(answer.tokens))

    before, behind = prompt_tokens([question]), prompt_tokens([question, said, question])

    assert behind[: len(before) + len(answer.tokens) - 1] == before + answer.tokens[:-1]


@given(seed=seeds, most=st.integers(1, 60))
def test_the_most_tokens_are_never_passed(seed: int, most: int) -> None:
    answer = plan(seed, Wanted(most=most))

    assert answer.reason == "length"
    assert len(answer.tokens) == most


@settings(deadline=None)
@given(seed=seeds, data=st.data())
def test_a_stop_sequence_is_not_shown_and_nothing_comes_behind_it(seed: int, data: st.DataObject) -> None:
    whole = "".join(plan(seed, Wanted(most=1000)).tokens)
    at = data.draw(st.integers(0, len(whole) - 1))
    stop = whole[at : at + data.draw(st.integers(1, 12))]

    answer = plan(seed, Wanted(most=1000, stop=[stop]))

    assert "".join(answer.tokens) == whole[: whole.index(stop)]
    assert answer.reason == "stop"


def test_a_text_that_someone_else_began_is_continued_too() -> None:
    answer = plan(7, Wanted(most=5, begun="It was the best of times,"))

    assert answer.tokens[0].startswith(" ")
    assert len(answer.tokens) == 5


def test_another_seed_or_prompt_gives_another_answer() -> None:
    seeds = {answer_seed(prompt, seed) for prompt in (["a"], ["b"]) for seed in (None, 1, 2)}

    assert len(seeds) == 6


def test_made_up_json_obeys_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "blue"]},
            "count": {"type": "integer", "minimum": 5},
            "tags": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/tag"}},
            "short": {"type": "string", "maxLength": 2},
        },
        "$defs": {"tag": {"type": "string", "minLength": 20}},
    }

    value = json.loads(json.dumps(example(schema, Random(1))))

    assert value["colour"] in ("red", "blue")
    assert value["count"] >= 5
    assert len(value["tags"]) == 2
    assert all(len(tag) >= 20 for tag in value["tags"])
    assert len(value["short"]) == 2


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}

    assert "next" in example(schema, Random(1))
