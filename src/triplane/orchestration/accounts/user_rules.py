"""What a user may be called, and which plan they may have; the same wherever it is said."""

from collections.abc import Collection
from typing import Annotated

import msgspec

from triplane.domain.errors import InvalidRequest

_LONGEST_NAME = 100

UserName = Annotated[str, msgspec.Meta(min_length=1, max_length=_LONGEST_NAME)]
PlanName = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]


def require_user_name(name: str) -> str:
    """The name as it is kept. Raises InvalidRequest."""
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise InvalidRequest(
            f"Give the user a name of 1 to {_LONGEST_NAME} printable characters.", param="name"
        )
    return name.strip()


def require_plan(plan: str | None, known: Collection[str]) -> None:
    """None is everybody's. Raises InvalidRequest."""
    if plan is not None and plan not in known:
        raise InvalidRequest(
            f"There is no plan {plan!r}; there are {', '.join(sorted(known))}.", param="plan"
        )
