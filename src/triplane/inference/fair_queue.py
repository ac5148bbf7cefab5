"""Whose turn it is: a queue that is fair between plans by their weights, then between the users of a plan.

Each plan and each user has a counter of the tokens it was served, divided by its weight; the one that had
the least comes next. Who comes back after a pause starts at the least counter of those who wait, or where
the last one who was served had started, so that nobody saves up service. That is the virtual token counter
of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024), in two levels.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from triplane.domain.limits import DEFAULT_PLAN

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
        self.level = 0.0
        self.count = 0
        self.waiting: dict[str, _User[T]] = {}
        self.idle: OrderedDict[str, _User[T]] = OrderedDict()

    @property
    def load(self) -> float:
        """How many wait, for its weight."""
        return self.count / self.weight

    def user(self, name: str) -> _User[T]:
        """The user, waiting or idle; a new one is idle."""
        if name in self.waiting:
            return self.waiting[name]
        if name not in self.idle:
            self.idle[name] = _User()
            if len(self.idle) > REMEMBERED_USERS:
                self.idle.popitem(last=False)
        return self.idle[name]

    def longest(self) -> tuple[str, _User[T]]:
        """The user who has most waiting."""
        return max(self.waiting.items(), key=lambda named: len(named[1].waiting))


class FairQueue(Generic[T]):
    """`weights` are those of the plans; a plan without one is the default plan, which weighs 1 if it has
    none. Nothing in here waits or is bounded: whoever pushes looks at `len` first."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._plans: dict[str, _Plan[T]] = {}
        self._length = 0
        self._level = 0.0
        self.reweigh(weights)

    def __len__(self) -> int:
        return self._length

    def reweigh(self, weights: Mapping[str, float]) -> None:
        """The plans weigh this from now on. One that is gone weighs what it did, for those who still wait."""
        for name, weight in {DEFAULT_PLAN: 1.0, **weights}.items():
            self._plans.setdefault(name, _Plan(weight)).weight = weight

    def push(self, plan: str, user: str, item: T) -> None:
        group = self._plan(plan)
        if not group.count:
            waiting = (each.served for each in self._plans.values() if each.count)
            group.served = _lifted(group.served, waiting, self._level)
        one = group.user(user)
        if not one.waiting:
            one.served = _lifted(one.served, (each.served for each in group.waiting.values()), group.level)
            group.waiting[user] = group.idle.pop(user)
        one.waiting.append(item)
        group.count += 1
        self._length += 1

    def pop(self) -> T | None:
        """The next item; None if nobody waits. `charge` what it costs before the next one is taken."""
        if not self._length:
            return None
        group = min((each for each in self._plans.values() if each.count), key=_served)
        self._level = max(self._level, group.served)
        user, one = min(group.waiting.items(), key=lambda named: named[1].served)
        group.level = max(group.level, one.served)
        item = one.waiting.popleft()
        self._took(group, user, one)
        return item

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
        """Make room for an item of this user: the newest one of the longest user of the longest plan.

        The room is shared as the engines are: by weight between the plans, equally inside a plan. None if
        with one more this plan, and in it this user, would be the longest itself: nobody is to make room.
        """
        mine = self._plan(plan)
        longest = max(self._plans.values(), key=lambda each: each.load)
        group = longest if longest.load > (mine.count + 1) / mine.weight else mine
        if not group.count:
            return None
        name, one = group.longest()
        if group is mine:
            own = mine.waiting.get(user)
            if len(one.waiting) <= (len(own.waiting) if own else 0) + 1:
                return None
        item = one.waiting.pop()
        self._took(group, name, one)
        return item

    def _plan(self, name: str) -> _Plan[T]:
        return self._plans.get(name) or self._plans[DEFAULT_PLAN]

    def _took(self, group: _Plan[T], user: str, one: _User[T]) -> None:
        group.count -= 1
        self._length -= 1
        if not one.waiting:
            group.idle[user] = group.waiting.pop(user)


def _served(plan: "_Plan[T]") -> float:
    return plan.served


def _lifted(served: float, of_those_who_wait: Iterable[float], level: float) -> float:
    return max(served, min(of_those_who_wait, default=level))
