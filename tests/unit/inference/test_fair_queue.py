"""Whose turn it is. Items are (plan, user, number)."""

import math
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from triplane.inference.fair_queue import REMEMBERED_USERS, FairQueue

Item = tuple[str, str, int]

PLANS = {"free": 1.0, "pro": 4.0, "team": 2.5}
plans = st.sampled_from(sorted(PLANS))
users = st.sampled_from(["ann", "bob", "cy"])
costs = st.floats(1, 100)


class Backlog:
    """A queue whose named users always have something waiting, and what each was served."""

    def __init__(self, *flows: tuple[str, str], weights: dict[str, float] | None = None) -> None:
        self.queue: FairQueue[Item] = FairQueue(weights or PLANS)
        self.served: dict[tuple[str, str], float] = defaultdict(float)
        self._flows = flows
        self._number = 0
        for flow in flows:
            self.push(*flow)
            self.push(*flow)

    def push(self, plan: str, user: str) -> Item:
        self._number += 1
        item = (plan, user, self._number)
        self.queue.push(plan, user, item)
        return item

    def serve(self, cost: float = 1.0) -> Item:
        item = self.queue.pop()
        assert item is not None
        plan, user, _ = item
        self.queue.charge(plan, user, cost)
        self.served[plan, user] += cost
        if (plan, user) in self._flows:
            self.push(plan, user)
        return item

    def of_plan(self, plan: str) -> float:
        return sum(tokens for (name, _), tokens in self.served.items() if name == plan)


@given(st.lists(costs, min_size=1, max_size=200))
def test_busy_plans_are_served_by_their_weights(each: list[float]) -> None:
    backlog = Backlog(("free", "ann"), ("pro", "bob"), ("team", "cy"))

    for cost in each:
        backlog.serve(cost)

    shares = [backlog.of_plan(plan) / weight for plan, weight in PLANS.items()]
    assert max(shares) - min(shares) <= max(each) / min(PLANS.values()) + 1e-6


@given(st.lists(costs, min_size=1, max_size=200))
def test_busy_users_of_a_plan_are_served_alike_however_much_they_ask_for(each: list[float]) -> None:
    backlog = Backlog(("free", "ann"), ("free", "bob"), ("free", "cy"))
    for _ in range(50):
        backlog.push("free", "ann")

    for cost in each:
        backlog.serve(cost)

    tokens = [backlog.served["free", user] for user in ("ann", "bob", "cy")]
    assert max(tokens) - min(tokens) <= max(each) + 1e-6


@given(
    alone=st.lists(costs, max_size=50), together=st.lists(costs, min_size=1, max_size=50), stays=st.booleans()
)
def test_who_asked_for_nothing_has_saved_nothing_up(
    alone: list[float], together: list[float], stays: bool
) -> None:
    """Whether the other one's queue was ever empty meanwhile, or never (`stays`)."""
    backlog = Backlog()
    if stays:
        backlog.push("free", "ann")
    for cost in alone:
        backlog.push("free", "ann")
        backlog.serve(cost)
    backlog.served.clear()

    for _ in together:
        backlog.push("pro", "bob")
        backlog.push("free", "cy")
        backlog.push("free", "ann")
    for cost in together:
        backlog.serve(cost)

    most = max([*together, *alone])
    free, pro = backlog.of_plan("free"), backlog.of_plan("pro") / PLANS["pro"]
    assert abs(free - pro) <= 2 * most + 1e-6
    assert abs(backlog.served["free", "ann"] - backlog.served["free", "cy"]) <= 2 * most + 1e-6


def test_a_plan_that_comes_to_an_empty_queue_begins_where_the_other_one_is() -> None:
    backlog = Backlog()
    for _ in range(100):
        backlog.push("free", "ann")
        backlog.serve()

    for _ in range(20):
        backlog.push("pro", "bob")
        backlog.push("free", "ann")
        backlog.push("free", "cy")

    order = [backlog.serve() for _ in range(20)]
    assert sum(plan == "free" for plan, _, _ in order) == 4
    assert {user for plan, user, _ in order if plan == "free"} == {"ann", "cy"}


@given(st.integers(1, 30), st.integers(20, 200))
def test_a_light_user_behind_a_flood_is_served_next_but_few(heavy_users: int, flood: int) -> None:
    backlog = Backlog()
    for user in range(heavy_users):
        for _ in range(flood):
            backlog.push("pro", f"heavy {user}")
    for _ in range(10):
        backlog.serve()

    mine = backlog.push("free", "light")

    order = [backlog.serve() for _ in range(min(len(backlog.queue), 10))]
    assert mine in order[: math.ceil(PLANS["pro"] / PLANS["free"]) + 1]


def test_tokens_that_were_expected_and_not_computed_are_given_back() -> None:
    backlog = Backlog(("free", "ann"), ("free", "bob"))
    backlog.serve(100)
    backlog.serve(100)
    backlog.queue.charge("free", "ann", -90)

    assert [backlog.serve(10)[1] for _ in range(9)] == ["ann"] * 9


def test_weights_may_change_while_somebody_waits() -> None:
    backlog = Backlog(("free", "ann"), ("pro", "bob"))
    backlog.queue.reweigh({"free": 4.0, "pro": 1.0})

    for _ in range(100):
        backlog.serve()

    assert backlog.of_plan("free") == pytest.approx(80, abs=2)


def test_a_plan_without_a_weight_is_the_default_plan() -> None:
    backlog = Backlog(("unheard of", "ann"), ("pro", "bob"), weights={"default": 3.0, "pro": 1.0})

    for _ in range(100):
        backlog.serve()

    assert backlog.of_plan("unheard of") == pytest.approx(75, abs=2)


waiting = st.lists(st.tuples(plans, users), max_size=40)


@given(waiting, plans, users)
def test_ahead_of_is_about_how_many_are_served_before(
    flows: list[tuple[str, str]], plan: str, user: str
) -> None:
    backlog = Backlog()
    for flow in flows:
        backlog.push(*flow)
    predicted = backlog.queue.ahead_of(plan, user)
    mine = backlog.push(plan, user)

    ahead = 0
    while backlog.serve() != mine:
        ahead += 1

    ties = len(set(flows)) + sum(math.ceil(weight) for weight in PLANS.values())
    assert predicted - ties <= ahead <= predicted + 1


@given(waiting, st.lists(st.tuples(plans, users), max_size=60), st.integers(1, 12))
def test_the_places_in_a_full_queue_are_shared_by_weight_then_equally(
    first: list[tuple[str, str]], then: list[tuple[str, str]], places: int
) -> None:
    """Whoever was pushed out had more of the places, for its weight, than whoever came for it."""
    queue: FairQueue[Item] = FairQueue(PLANS)
    count: dict[str, int] = defaultdict(int)
    own: dict[tuple[str, str], int] = defaultdict(int)
    for number, (plan, user) in enumerate(first + then):
        if len(queue) >= places:
            out = queue.push_out(plan, user)
            if out is None:
                assert all(
                    count[each] / PLANS[each] <= (count[plan] + 1) / PLANS[plan]
                    for each in PLANS
                    if each != plan
                )
                continue
            if out[0] == plan:
                assert own[out[:2]] > own[plan, user] + 1
            else:
                assert count[out[0]] / PLANS[out[0]] > (count[plan] + 1) / PLANS[plan]
            assert own[out[:2]] == max(value for (name, _), value in own.items() if name == out[0])
            count[out[0]] -= 1
            own[out[:2]] -= 1
        queue.push(plan, user, (plan, user, number))
        count[plan] += 1
        own[plan, user] += 1


def test_many_users_of_a_heavy_plan_cannot_keep_a_light_one_out_of_a_full_queue() -> None:
    queue: FairQueue[Item] = FairQueue({"free": 1.0, "pro": 9.0})
    for number in range(20):
        queue.push("free", "ann", ("free", "ann", number))

    for number in range(1000):
        if queue.push_out("pro", f"user {number}") is not None:
            queue.push("pro", f"user {number}", ("pro", f"user {number}", number))

    left = [queue.pop() for _ in range(len(queue))]
    assert sum(item is not None and item[0] == "free" for item in left) == 2


def test_the_newest_item_of_the_longest_user_makes_room() -> None:
    backlog = Backlog()
    items = [backlog.push("free", "ann") for _ in range(3)]

    assert backlog.queue.push_out("free", "bob") == items[-1]
    assert backlog.queue.push_out("free", "ann") is None


def test_counters_of_users_who_are_gone_are_forgotten_in_the_end() -> None:
    queue: FairQueue[int] = FairQueue({})
    for number in range(REMEMBERED_USERS + 100):
        queue.push("free", f"user {number}", number)
        assert queue.pop() == number
        queue.charge("free", f"user {number}", 1)

    assert len(queue._plans["default"].idle) == REMEMBERED_USERS


class QueueMachine(RuleBasedStateMachine):
    """Nothing is lost, nothing comes twice, and the items of a user keep their order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[Item] = FairQueue(PLANS)
        self.waiting: dict[tuple[str, str], list[Item]] = defaultdict(list)
        self.number = 0

    @rule(plan=plans, user=users)
    def push(self, plan: str, user: str) -> None:
        self.number += 1
        item = (plan, user, self.number)
        self.queue.push(plan, user, item)
        self.waiting[plan, user].append(item)

    @rule(cost=costs)
    def pop(self, cost: float) -> None:
        item = self.queue.pop()
        if item is None:
            assert not any(self.waiting.values())
            return
        assert self.waiting[item[:2]].pop(0) == item
        self.queue.charge(item[0], item[1], cost)

    @rule(plan=plans, user=users, place=st.integers(0, 5))
    def remove(self, plan: str, user: str, place: int) -> None:
        mine = self.waiting[plan, user]
        item = mine.pop(place) if place < len(mine) else (plan, user, -1)
        assert self.queue.remove(plan, user, item) == (item[2] != -1)

    @rule(plan=plans, user=users)
    def push_out(self, plan: str, user: str) -> None:
        item = self.queue.push_out(plan, user)
        if item is not None:
            assert self.waiting[item[:2]].pop() == item

    @rule(plan=plans, user=users, tokens=st.floats(-50, 50))
    def correct(self, plan: str, user: str, tokens: float) -> None:
        self.queue.charge(plan, user, tokens)

    @invariant()
    def counts_what_waits(self) -> None:
        assert len(self.queue) == sum(len(each) for each in self.waiting.values())


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=50, deadline=None)
