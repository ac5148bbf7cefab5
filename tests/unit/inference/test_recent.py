"""What a route did in the last minute."""

from hypothesis import given
from hypothesis import strategies as st

from triplane.domain.fleet import Recent
from triplane.inference.recent import MOST_TIMES, WINDOW_S, RecentCalls


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pass_by(clock: Clock, recent: RecentCalls, seconds: int) -> None:
    for _ in range(seconds):
        clock.now += 1.0
        recent.mark()


def test_a_route_that_did_nothing_tells_of_nothing() -> None:
    assert RecentCalls(Clock()).view() == Recent()


def test_calls_errors_and_times_are_those_of_the_last_minute() -> None:
    clock = Clock()
    recent = RecentCalls(clock)
    recent.first_token(9.0)
    recent.ended(0, is_error=True)
    pass_by(clock, recent, int(WINDOW_S) + 1)
    for ttft_s in (0.1, 0.2, 0.3, 0.4):
        recent.first_token(ttft_s)
        recent.ended(0, is_error=ttft_s == 0.4)

    told = recent.view()

    assert (told.calls, told.errors) == (4, 1)
    assert (told.ttft_p50_s, told.ttft_p95_s) == (0.2, 0.4)


def test_tokens_flow_while_an_answer_runs_and_its_end_sets_their_number_right() -> None:
    clock = Clock()
    recent = RecentCalls(clock)
    recent.first_token(0.1)
    for _ in range(20):
        recent.tokens += 1
        clock.now += 0.5
    during = recent.view().tokens_per_s
    recent.ended(30, is_error=False)
    ended = recent.view().tokens_per_s
    pass_by(clock, recent, int(WINDOW_S))

    assert (during, ended, recent.view().tokens_per_s) == (2.0, 5.0, 0.5)
    pass_by(clock, recent, 1)
    assert recent.view().tokens_per_s == 0


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 50)), max_size=300))
def test_tokens_a_second_are_those_of_the_last_minute_whatever_the_pace(
    steps: list[tuple[float, int]],
) -> None:
    clock = Clock()
    recent = RecentCalls(clock)
    recent.mark()
    came: list[float] = []
    for pause_s, tokens in steps:
        clock.now += pause_s
        recent.mark()
        recent.tokens += tokens
        came += [clock.now] * tokens

    def rate(window_s: float) -> float:
        return sum(at >= clock.now - window_s for at in came)

    told = recent.view().tokens_per_s
    age_s = clock.now - 1000.0
    least_s, most_s = min(age_s, WINDOW_S - 3), min(max(age_s, 1.0), WINDOW_S + 3)
    assert rate(least_s) / most_s - 0.05 <= told <= rate(most_s) / max(least_s, 1.0) + 0.05


def test_however_many_calls_there_are_little_is_kept() -> None:
    clock = Clock()
    recent = RecentCalls(clock)
    for number in range(3 * MOST_TIMES):
        clock.now += 0.001
        recent.first_token(float(number >= 2 * MOST_TIMES))
        recent.ended(0, is_error=False)

    assert recent.view().ttft_p50_s == 1.0
    assert recent.view().calls == 3 * MOST_TIMES
