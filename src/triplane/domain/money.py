"""Prices and costs. A cost is a whole number of nano-dollars, so that sums are exact."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from triplane.domain.events import Usage

NANO_DOLLARS = 1_000_000_000
"""In one dollar. A price of one dollar for a million tokens is 1,000 nano-dollars for each."""


def dollars(nano_dollars: int) -> float:
    """For showing; sums are made before."""
    return nano_dollars / NANO_DOLLARS


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars for a million tokens. `cached` is for prompt tokens that the engine had in its cache;
    None charges them as input."""

    input: Decimal = Decimal(0)
    cached: Decimal | None = None
    output: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        for name in ("input", "cached", "output"):
            value = getattr(self, name)
            if value is not None and not (value.is_finite() and value >= 0):
                raise ValueError(f"{name} is {value}: a price is a number of dollars from 0 up")

    def cost_of(self, usage: Usage) -> int:
        """Nano-dollars, rounded up to the next whole one."""
        cached = self.input if self.cached is None else self.cached
        total = (
            (usage.prompt_tokens - usage.cached_tokens) * self.input
            + usage.cached_tokens * cached
            + usage.completion_tokens * self.output
        ) * 1000
        return int(total.to_integral_value(rounding="ROUND_CEILING"))


FREE = Price()


class EngineCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call to an engine, as the bill has it: what it computed, and what that cost.

    `attempt` counts the calls of one completion from 1. `route` is the route's name in the catalogue,
    `replica` the address or name of the engine that computed. `cost` in nano-dollars.
    """

    attempt: int
    route: str
    replica: str
    usage: Usage
    cost: int


class CallsMade:
    """Give it along with a request: its `calls` are what a completion that fails, or is cancelled, before its
    first event has had engines compute. One that begins tells its calls itself."""

    def __init__(self) -> None:
        self.calls: Sequence[EngineCall] = ()


def usage_of(calls: Iterable[EngineCall]) -> Usage:
    """What these calls have computed, together."""
    return sum((call.usage for call in calls), Usage())
