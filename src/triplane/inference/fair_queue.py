"""Whose turn it is: a queue that is fair between plans by their weights, then between the users of a plan.

Each plan and each user has a counter of the tokens it was served, divided by its weight; the one that had
the least comes next. Who comes back after a pause starts at the least counter of those who wait, so that
nobody saves up service. That is the virtual token counter of Sheng et al., "Fairness in Serving Large
Language Models" (OSDI 2024), in two levels.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")

REMEMBERED_USERS = 10_000
"""Users of a plan whose counters are kept while they have nothing waiting."""


class _User(Generic[T]):
    __slots__ = ("served", "waiting")

    def __init__(self) -> None:
        self.served = 0.0
        self.waiting: deque[T] = deque()


class _Plan(Generic[T]):
    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.served = 0.0
        self.count = 0
        self.waiting: dict[str, _User[T]] = {}
        self.idle: OrderedDict[str, _User[T]] = OrderedDict()

    def user(self, name: str) -> _User[T]:
        """The user, waiting or idle; a new one is idle."""
        if name in self.waiting:
            return self.waiting[name]
        if name not in self.idle:
            self.idle[name] = _User()
            if len(self.idle) > REMEMBERED_USERS:
                self.idle.popitem(last=False)
        return self.idle[name]


class FairQueue(Generic[T]):
    """`weights` are those of the plans; a plan without one weighs 1. Nothing in here waits or is bounded:
    whoever pushes looks at `len` first."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._plans = {name: _Plan[T](weight) for name, weight in weights.items()}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, plan: str, user: str, item: T) -> None:
        group = self._plan(plan)
        if not group.count:
            group.served = _lifted(group.served, (each.served for each in self._plans.values() if each.count))
        one = group.user(user)
        if not one.waiting:
            one.served = _lifted(one.served, (each.served for each in group.waiting.values()))
            group.waiting[user] = group.idle.pop(user)
        one.waiting.append(item)
        group.count += 1
        self._length += 1

    def pop(self) -> tuple[str, str, T] | None:
        """The next item with its plan and user; None if nobody waits."""
        group = min(
            ((name, each) for name, each in self._plans.items() if each.count), key=_served, default=None
        )
        if group is None:
            return None
        user, one = min(group[1].waiting.items(), key=_served)
        item = one.waiting.popleft()
        self._took(group[1], user, one)
        return group[0], user, item

    def charge(self, plan: str, user: str, tokens: float) -> None:
        """This user was served so many tokens; fewer than nothing gives back what was charged too much."""
        group = self._plan(plan)
        group.served += tokens / group.weight
        group.user(user).served += tokens

    def remove(self, plan: str, user: str, item: T) -> bool:
        """Whether the item still waited; it doesn't any more."""
        group = self._plan(plan)
        one = group.waiting.get(user)
        if one is None or item not in one.waiting:
            return False
        one.waiting.remove(item)
        self._took(group, user, one)
        return True

    def ahead_of(self, plan: str, user: str) -> int:
        """About how many would be served before a new item of this user, the counters being level."""
        group = self._plan(plan)
        one = group.waiting.get(user)
        own = len(one.waiting) if one else 0
        inside = own + sum(
            min(len(each.waiting), own + 1) for name, each in group.waiting.items() if name != user
        )
        outside = sum(
            min(each.count, math.ceil((inside + 1) * each.weight / group.weight))
            for each in self._plans.values()
            if each is not group
        )
        return inside + outside

    def push_out(self, plan: str, user: str) -> T | None:
        """Make room for an item of this user: the newest one of whoever has most waiting for its weight.

        None if that is this user itself, or would be with one more: then nobody is to make room.
        """
        longest, most = None, 0.0
        for group in self._plans.values():
            for name, one in group.waiting.items():
                if len(one.waiting) / group.weight > most:
                    longest, most = (group, name, one), len(one.waiting) / group.weight
        mine = self._plan(plan)
        own = mine.waiting.get(user)
        if longest is None or most <= ((len(own.waiting) if own else 0) + 1) / mine.weight:
            return None
        group, name, one = longest
        item = one.waiting.pop()
        self._took(group, name, one)
        return item

    def _plan(self, name: str) -> _Plan[T]:
        if name not in self._plans:
            self._plans[name] = _Plan(1.0)
        return self._plans[name]

    def _took(self, group: _Plan[T], user: str, one: _User[T]) -> None:
        group.count -= 1
        self._length -= 1
        if not one.waiting:
            group.idle[user] = group.waiting.pop(user)


def _served(named: tuple[str, "_Plan[T] | _User[T]"]) -> float:
    return named[1].served


def _lifted(served: float, of_those_who_wait: Iterable[float]) -> float:
    return max(served, min(of_those_who_wait, default=served))
