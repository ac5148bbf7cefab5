"""Lists in OpenAI's shape, a page at a time."""

from collections.abc import Sequence
from typing import Generic, Literal, Protocol, TypeVar

import msgspec


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_HasId)


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """`last_id` is the cursor (`after`) of the next page, which exists if `has_more`."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str
    deleted: Literal[True] = True


def page_of(data: Sequence[T], *, has_more: bool = False) -> Page[T]:
    return Page(
        data=list(data),
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=has_more,
    )
