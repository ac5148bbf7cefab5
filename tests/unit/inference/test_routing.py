"""Which replica and which route: pure choices, the same in every process."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripted_engines import ScriptedEngine
from triplane.inference.catalogue import Cascade, Model, Tier
from triplane.inference.replica import Replica
from triplane.inference.routing import LIGHT_LOAD, SPARE_LOAD, choose_replica, order_routes


def replicas(count: int, slots: int | None = None) -> list[Replica]:
    made = []
    for number in range(count):
        engine = ScriptedEngine()
        engine.name = f"route@replica-{number}"
        made.append(Replica(engine, slots, lambda: 0.0))
    return made


def chosen(all_of_them: list[Replica], affinity: str | None) -> str:
    replica = choose_replica(all_of_them, affinity)
    assert replica is not None
    return replica.name


CONVERSATIONS = [f"conversation-{number}" for number in range(2000)]


def test_a_conversation_has_the_same_replica_in_every_process() -> None:
    fleet = replicas(5)

    assert [chosen(fleet, affinity)[-1] for affinity in CONVERSATIONS[:12]] == list("202220442031")


def test_conversations_are_spread_evenly() -> None:
    counts = Counter(chosen(replicas(4), affinity) for affinity in CONVERSATIONS)

    assert all(abs(count - 500) < 100 for count in counts.values())


def test_long_affinities_that_begin_alike_are_spread_too() -> None:
    fleet = replicas(4)

    assert len({chosen(fleet, "x" * 100 + str(number)) for number in range(50)}) == 4


def test_when_a_replica_goes_only_its_own_conversations_move() -> None:
    fleet = replicas(5)
    before = {affinity: chosen(fleet, affinity) for affinity in CONVERSATIONS}
    gone = fleet.pop(2)

    after = {affinity: chosen(fleet, affinity) for affinity in CONVERSATIONS}

    moved = {affinity for affinity in CONVERSATIONS if before[affinity] != after[affinity]}
    assert moved == {affinity for affinity in CONVERSATIONS if before[affinity] == gone.name}
    assert len({after[affinity] for affinity in moved}) == 4


@given(st.lists(st.integers(0, 60), min_size=2, max_size=8), st.text(max_size=20))
def test_a_prefix_is_worth_no_more_than_a_bounded_load(loads: list[int], affinity: str) -> None:
    fleet = replicas(len(loads))
    for replica, load in zip(fleet, loads, strict=True):
        replica.in_flight = load

    least_bad = choose_replica(fleet, affinity)

    assert least_bad is not None
    mean = (sum(loads) + 1) / len(loads)
    bound = max(SPARE_LOAD * mean, LIGHT_LOAD / 2)
    assert least_bad.in_flight < bound or least_bad.in_flight == min(loads)


def test_a_hot_conversation_spills_over_to_one_and_the_same_replica() -> None:
    fleet = replicas(4)
    home = choose_replica(fleet, "hot")
    assert home is not None
    home.in_flight = 50

    others = {chosen(fleet, "hot") for _ in range(20)}

    assert len(others) == 1
    assert others != {home.name}


def test_without_an_affinity_the_most_loaded_replica_is_never_chosen() -> None:
    fleet = replicas(4)
    fleet[1].in_flight = 3

    assert fleet[1].name not in {chosen(fleet, None) for _ in range(200)}


def test_a_replica_that_was_tried_comes_last() -> None:
    first, second = replicas(2)

    assert choose_replica([first, second], "a", [first]) is second
    assert choose_replica([first, second], "a", [second]) is first
    assert choose_replica([first], "a", [first]) is first


def test_nobody_is_chosen_who_is_full_or_left_alone() -> None:
    full, busy, open_ = fleet = replicas(3, slots=1)
    full.in_flight = 1
    busy.busy(10)
    for _ in range(5):
        open_.began().failed()
        open_.ended()

    assert choose_replica(fleet, "a") is None


def shares(tier: Tier, of: list[str | None]) -> Counter[str]:
    return Counter(order_routes(Model(routes=[tier]), affinity)[0] for affinity in of)


@pytest.mark.parametrize("of", [[*CONVERSATIONS], [None] * 2000], ids=["by conversation", "by chance"])
def test_a_canary_gets_its_share(of: list[str | None]) -> None:
    counts = shares({"stable": 90, "next": 10}, of)

    assert counts["next"] == pytest.approx(200, abs=70)


def test_a_conversation_stays_on_its_side_while_the_canary_grows() -> None:
    small = {a: order_routes(Model(routes=[{"stable": 95, "next": 5}]), a)[0] for a in CONVERSATIONS}
    large = {a: order_routes(Model(routes=[{"stable": 80, "next": 20}]), a)[0] for a in CONVERSATIONS}

    assert all(large[a] == "next" for a in CONVERSATIONS if small[a] == "next")


def test_a_share_of_nothing_is_for_when_the_others_fail() -> None:
    tier: Tier = {"never": 0, "always": 1}

    assert shares(tier, [*CONVERSATIONS])["never"] == 0
    assert order_routes(Model(routes=[tier]), None) == ["always", "never"]


def test_routes_are_tried_tier_by_tier_each_once_and_a_cascade_begins() -> None:
    cascade = Cascade(route="cheap")
    model = Model(routes=[{"a": 1, "b": 1}, "cheap", "c", "a"], cascade=cascade)

    order = order_routes(model, "some conversation")

    assert order[0] == "cheap"
    assert sorted(order[1:3]) == ["a", "b"]
    assert order[3:] == ["c"]
