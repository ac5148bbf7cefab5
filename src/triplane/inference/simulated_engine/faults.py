"""Faults on demand: what goes wrong, for how many requests, and how often.

A plan is set over `POST /faults` or at the start, and drawn from once for each chat completion. The first
fault in the plan that applies is the one that happens. Which requests it strikes follows from the seed.
"""

from random import Random
from typing import Annotated

import msgspec

Chance = Annotated[float, msgspec.Meta(gt=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Tokens = Annotated[int, msgspec.Meta(ge=0)]


class _Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """`count`: how many requests it strikes before it is over, None for no end. `probability`: of each."""

    count: Count | None = None
    probability: Chance = 1.0


class Slow(_Fault, frozen=True, kw_only=True, tag="slow"):
    """Every step that such a request is part of takes `factor` times as long."""

    factor: Annotated[float, msgspec.Meta(ge=1)] = 10.0


class Hang(_Fault, frozen=True, kw_only=True, tag="hang"):
    """Sends nothing more after so many tokens; None: not even headers. The connection stays open."""

    after_tokens: Tokens | None = None


class Drop(_Fault, frozen=True, kw_only=True, tag="drop"):
    """Resets the connection after so many tokens; None: before the headers."""

    after_tokens: Tokens | None = None


class Refuse(_Fault, frozen=True, kw_only=True, tag="refuse"):
    """Answers with an error at once. `retry_after_s` goes into the Retry-After header."""

    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 503
    retry_after_s: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Garbage(_Fault, frozen=True, kw_only=True, tag="garbage"):
    """Sends an event that is no JSON after so many tokens, and goes on. Not streamed: a body that is none."""

    after_tokens: Tokens = 0


class ErrorEvent(_Fault, frozen=True, kw_only=True, tag="error_event"):
    """Ends the stream with an error event after so many tokens, as vLLM does when its core dies."""

    after_tokens: Tokens = 0


class CloseListener(_Fault, frozen=True, kw_only=True, tag="close_listener"):
    """Refuses connections for `seconds` of real time and resets those that are open, this request's too.

    The control port, if there is one, stays open.
    """

    seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 1.0


Fault = Slow | Hang | Drop | Refuse | Garbage | ErrorEvent | CloseListener


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `POST /faults` takes. It replaces the plan before it; an empty one ends all faults."""

    faults: list[Fault] = []
    seed: int = 0


class Struck(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of the plan, and how many requests it has struck."""

    fault: Fault
    struck: int


class FaultState(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /faults` answers."""

    seed: int
    faults: list[Struck]


NO_FAULTS = FaultPlan()


class Faults:
    def __init__(self, plan: FaultPlan = NO_FAULTS) -> None:
        self.set(plan)

    def set(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._random = Random(plan.seed)
        self._struck = [0] * len(plan.faults)

    def draw(self) -> Fault | None:
        """The fault that strikes the next request, if one does."""
        for index, fault in enumerate(self._plan.faults):
            if fault.count is not None and self._struck[index] >= fault.count:
                continue
            if fault.probability < 1 and self._random.random() >= fault.probability:
                continue
            self._struck[index] += 1
            return fault
        return None

    @property
    def state(self) -> FaultState:
        pairs = zip(self._plan.faults, self._struck, strict=True)
        return FaultState(
            seed=self._plan.seed, faults=[Struck(fault=fault, struck=struck) for fault, struck in pairs]
        )
