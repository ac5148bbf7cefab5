"""Made-up log probabilities in OpenAI's shape: always the same for the same token at the same place."""

from math import log
from random import Random
from typing import Any

from triplane.inference.simulated_engine.answers import words


def token_logprobs(text: str, index: int, top: int) -> dict[str, Any]:
    """The entry of one generated token, with `top` alternatives of which it is the first."""
    random = Random(f"{text} {index}")
    left = 0.5 + random.random() / 2
    entry = _entry(text, left)
    alternatives = [entry] if top else []
    for other in words(index, top)[1:]:
        left /= 4
        alternatives.append(_entry(other, left / 2))
    return {**entry, "top_logprobs": alternatives}


def _entry(text: str, probability: float) -> dict[str, Any]:
    return {"token": text, "logprob": log(probability), "bytes": list(text.encode())}
