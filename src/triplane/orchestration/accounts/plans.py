"""The plan that somebody is on: a name, whose limits and place in the queue the catalogue has."""

from collections.abc import Callable

from triplane.domain.conversation import Principal
from triplane.domain.limits import DEFAULT_PLAN

PlanOf = Callable[[Principal], str]
"""The one place to ask for the plan of a user or of the API key that they came with."""


def one_plan_for_all(name: str) -> PlanOf:
    return lambda _: name


def plan_of_user(default: str) -> PlanOf:
    """The plan that the user's row names, else this one."""
    return lambda who: who.plan or default


everybody_default = one_plan_for_all(DEFAULT_PLAN)
