"""The circuit breaker, and the replica and retry budget around it, on a clock that the test moves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from instant_loop import run_instantly
from scripted_engines import ScriptedEngine
from triplane.domain.errors import EngineFailed
from triplane.domain.fleet import BreakerState
from triplane.inference.breaker import Breaker, BreakerLimits, Permit
from triplane.inference.engines.engine import EngineLoad
from triplane.inference.replica import Replica
from triplane.inference.retries import FIRST_WAIT_S, LONGEST_WAIT_S, RetryBudget, backoff_s

LIMITS = BreakerLimits(failures=3, open_s=1.0, longest_s=5.0)


class Clock:
    """Tells the time that it was set to."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def breaker(clock: Clock) -> Breaker:
    return Breaker(clock, LIMITS)


def fail(one: Breaker, times: int = 1) -> None:
    for _ in range(times):
        one.begin().failed()


def state_of(one: Breaker) -> BreakerState:
    return one.state


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    one = breaker(Clock())
    fail(one, 2)
    one.begin().succeeded()
    fail(one, 2)
    assert state_of(one) == "closed"

    fail(one)

    assert state_of(one) == "open"
    assert not one.allows()


def test_callers_who_leave_count_neither_way() -> None:
    one = breaker(Clock())
    fail(one, 2)
    for _ in range(10):
        one.begin().left()
    fail(one)

    assert state_of(one) == "open"


def test_half_open_lets_one_call_try_which_closes_it() -> None:
    clock = Clock()
    one = breaker(clock)
    fail(one, 3)
    clock.time = 1.0
    trial = one.begin()
    assert not one.allows()

    trial.succeeded()

    assert state_of(one) == "closed"
    fail(one, 2)
    assert state_of(one) == "closed"


def test_a_trial_whose_caller_leaves_makes_room_for_another() -> None:
    clock = Clock()
    one = breaker(clock)
    fail(one, 3)
    clock.time = 1.0

    one.begin().left()

    assert one.allows()


def test_each_time_again_it_stays_open_twice_as_long_up_to_a_limit() -> None:
    clock = Clock()
    one = breaker(clock)
    fail(one, 3)
    waits = []
    for _ in range(5):
        opened_at = clock.time
        while not one.allows():
            clock.time += 0.5
        waits.append(clock.time - opened_at)
        one.begin().failed()

    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_call_from_before_it_opened_decides_nothing() -> None:
    clock = Clock()
    one = breaker(clock)
    old = [one.begin() for _ in range(3)]
    fail(one, 3)
    old[0].succeeded()
    assert state_of(one) == "open"
    clock.time = 1.0
    one.begin()

    old[1].failed()
    old[2].left()

    assert state_of(one) == "half_open"
    assert not one.allows()


def test_an_answer_that_began_ends_the_trial_and_one_failure_more_opens_it_again() -> None:
    clock = Clock()
    one = breaker(clock)
    fail(one, 3)
    clock.time = 1.0
    trial = one.begin()

    trial.answered()
    assert one.allows()
    trial.failed()

    assert state_of(one) == "open"
    clock.time = 2.5
    assert not one.allows()


def test_a_probe_that_finds_it_well_ends_the_wait_but_not_the_trial() -> None:
    clock = Clock()
    one = breaker(clock)
    fail(one, 3)

    one.recovered()

    assert state_of(one) == "half_open"
    one.begin()
    assert not one.allows()


class BreakerMachine(RuleBasedStateMachine):
    """Whatever calls do in whatever order: half open has one trial at most, open has no new call, and the
    breaker never stays half open without letting anybody try."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = breaker(self.clock)
        self.running: list[Permit] = []
        self.trial: Permit | None = None

    @precondition(lambda self: self.breaker.allows())
    @rule()
    def begin(self) -> None:
        is_trial = self.breaker.state == "half_open"
        permit = self.breaker.begin()
        self.running.append(permit)
        if is_trial:
            assert self.trial is None
            self.trial = permit

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "failed", "left"]))
    def end(self, data: st.DataObject, how: str) -> None:
        permit = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        was_closed = self.breaker.state == "closed"
        getattr(permit, how)()
        if permit is self.trial:
            self.trial = None
            expected = {"succeeded": "closed", "failed": "open", "left": "half_open"}
            assert self.breaker.state == expected[how]
        elif not was_closed:
            assert self.breaker.state != "closed"

    @precondition(lambda self: self.trial is not None)
    @rule()
    def answer(self) -> None:
        assert self.trial is not None
        self.trial.answered()
        self.trial = None
        assert self.breaker.state == "closed"

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule()
    def probe(self) -> None:
        self.breaker.recovered()

    @invariant()
    def allows_what_it_should(self) -> None:
        state = self.breaker.state
        assert self.breaker.allows() == (state == "closed" or (state == "half_open" and self.trial is None))


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=50, deadline=None)


@given(st.lists(st.booleans(), max_size=300), st.floats(0, 1), st.integers(1, 20))
def test_retries_are_a_share_of_the_requests_and_a_few_more(
    steps: list[bool], share: float, burst: int
) -> None:
    budget = RetryBudget(share, burst)
    requests = retries = 0
    for is_request in steps:
        if is_request:
            budget.request_came()
            requests += 1
        else:
            retries += budget.take()
        assert retries <= burst + share * requests + 1e-6


def test_a_quiet_time_saves_up_no_more_than_the_burst() -> None:
    budget = RetryBudget(0.2, 10)
    for _ in range(1000):
        budget.request_came()

    assert sum(budget.take() for _ in range(100)) == 10


@given(st.integers(1, 50))
def test_pauses_grow_within_their_limit(retry: int) -> None:
    assert 0 <= backoff_s(retry) <= min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (retry - 1))


def test_a_replica_that_is_back_has_one_slot_for_its_trial() -> None:
    clock = Clock()
    replica = Replica(ScriptedEngine(), 4, clock)
    assert replica.usable_slots == 4
    for _ in range(5):
        replica.began().failed()
        replica.ended()
    assert replica.usable_slots == 0

    clock.time = 1.0

    assert replica.usable_slots == 1
    replica.began()
    assert replica.usable_slots == 1
    assert not replica.is_available


def test_a_full_kv_cache_counts_as_all_slots() -> None:
    replica = Replica(ScriptedEngine(), 4, Clock())
    replica.load = EngineLoad(running=2, waiting=1, kv_usage=0.5)
    assert replica.pressure == 3

    replica.load = EngineLoad(running=2, waiting=1, kv_usage=0.99)

    assert replica.pressure == 7


def test_a_look_that_fails_in_any_way_forgets_the_load_and_raises_nothing() -> None:
    class Odd(ScriptedEngine):
        async def load(self) -> EngineLoad | None:
            raise EngineFailed("odd")

    replica = Replica(Odd(), 4, Clock())
    replica.load = EngineLoad(running=2, waiting=1)

    run_instantly(replica.look())

    assert replica.load is None


@pytest.mark.parametrize(("is_well", "state"), [(True, "half_open"), (False, "open")])
def test_a_look_at_a_replica_that_failed_probes_it(is_well: bool, state: str) -> None:
    engine = ScriptedEngine()
    engine.is_well = is_well
    replica = Replica(engine, 4, Clock())
    for _ in range(5):
        replica.began().failed()
        replica.ended()

    run_instantly(replica.look())

    assert replica.breaker.state == state
