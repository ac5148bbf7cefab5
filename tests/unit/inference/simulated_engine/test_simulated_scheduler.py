"""The scheduler by itself, in simulated time: who is served, what it costs, what is counted."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triplane.inference.simulated_engine.profiles import GPUS, MODELS
from triplane.inference.simulated_engine.roofline import BLOCK_TOKENS, Roofline
from triplane.inference.simulated_engine.scheduler import Limits, Scheduler, StepResult, TooLong
from triplane.inference.simulated_engine.sequence import Sequence, blocks_for

ROOFLINE = Roofline(GPUS["h100"], MODELS["llama-8b"])


@dataclass
class Simulated:
    """A scheduler and its clock, driven as the engine drives it."""

    limits: Limits
    now: float = 0.0
    finished: list[Sequence] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(ROOFLINE, self.limits)
        self.numbers = iter(range(1, 1_000_000))

    def add(self, prompt: int | list[str], answer: int = 4, **fields: object) -> Sequence:
        number = next(self.numbers)
        tokens = [f"{number}.{index}" for index in range(prompt)] if isinstance(prompt, int) else prompt
        words = [f"answer {index}" for index in range(answer)]
        sequence = Sequence(number=number, prompt=tokens, answer=words, arrived=self.now, **fields)  # type: ignore[arg-type]
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> StepResult | None:
        """One step, or the time until the next event; None when nothing is left to do."""
        step = self.scheduler.begin_step(self.now)
        if step is None:
            event = self.scheduler.next_event()
            if event is None:
                return None
            self.now = event
            return StepResult()
        assert self.scheduler.pool.used <= self.scheduler.pool.size
        assert sum(tokens for _, tokens in step.work) <= self.limits.batched_tokens
        assert len(self.scheduler.running) <= self.limits.sequences
        for sequence, tokens in step.work:
            assert tokens > 0
            assert len(sequence.blocks) == blocks_for(sequence.computed + tokens)
        self.now += step.duration_s
        result = self.scheduler.end_step(step, self.now)
        self.finished += result.finished
        return result

    def run(self, most_steps: int = 20_000) -> None:
        """To the end of all work."""
        for _ in range(most_steps):
            if self.step() is None:
                return
        raise AssertionError("Some sequence is never served.")


LIMITS = Limits(batched_tokens=64, sequences=4, kv_blocks=12)

jobs = st.lists(
    st.tuples(
        st.integers(1, 120), st.integers(1, 40), st.integers(0, 3), st.integers(0, 40), st.integers(0, 60)
    ),
    min_size=1,
    max_size=12,
)
"""Prompt, answer, priority, step of arrival, steps until it is given up (above 40: never)."""


@settings(max_examples=150, deadline=None)
@given(jobs=jobs, blocks=st.integers(10, 30), batched=st.integers(1, 200))
def test_every_sequence_is_served_and_every_token_booked(
    jobs: list[tuple[int, int, int, int, int]], blocks: int, batched: int
) -> None:
    simulated = Simulated(Limits(batched_tokens=batched, sequences=4, kv_blocks=blocks))
    waiting = sorted(enumerate(jobs), key=lambda job: job[1][3])
    added: list[Sequence] = []
    abort_at: dict[int, Sequence] = {}
    for step in range(20_000):
        while waiting and waiting[0][1][3] <= step:
            _, (prompt, answer, priority, _, patience) = waiting.pop(0)
            sequence = simulated.add(prompt, answer, priority=priority)
            added.append(sequence)
            if patience <= 40:
                abort_at[step + patience] = sequence
        if step in abort_at:
            simulated.scheduler.abort(abort_at[step])
        if simulated.step() is None and not waiting and all(at <= step for at in abort_at):
            break
    else:
        raise AssertionError("Some sequence is never served.")

    assert simulated.scheduler.pool.used == 0
    for sequence in added:
        assert sequence.is_finished or sequence.is_aborted
        if sequence.is_finished:
            assert sequence.cached_tokens + sequence.prompt_computed == len(sequence.prompt)
    counters = simulated.scheduler.counters
    assert counters.prompt_computed == sum(sequence.prompt_computed for sequence in added)
    assert counters.generated == sum(sequence.generated for sequence in added)
    assert counters.recomputed == sum(sequence.recomputed for sequence in added)
    assert counters.preemptions == sum(sequence.preemptions for sequence in added)
    assert counters.prefix_hits == sum(sequence.cached_tokens for sequence in added)


@settings(max_examples=100, deadline=None)
@given(
    shared=st.integers(0, 100),
    own=st.integers(1, 40),
    salts=st.lists(st.sampled_from("ab"), min_size=1, max_size=5),
)
def test_the_prefix_cache_finds_whole_blocks_of_the_same_salt_and_no_more(
    shared: int, own: int, salts: list[str]
) -> None:
    """One after the other, so each finds what those before have left; the last token is always computed."""
    simulated = Simulated(Limits(kv_blocks=200))
    prefix = [f"shared {index}" for index in range(shared)]
    seen: set[str] = set()
    expected = 0
    for salt in salts:
        prompt = prefix + [f"{len(simulated.finished)} {index}" for index in range(own)]
        sequence = simulated.add(prompt, cache_salt=salt)
        simulated.run()
        hit = shared // BLOCK_TOKENS * BLOCK_TOKENS if salt in seen else 0
        assert sequence.cached_tokens == hit
        expected += hit
        seen.add(salt)

    assert simulated.scheduler.counters.prefix_hits == expected
    assert simulated.scheduler.counters.prefix_queries == len(salts) * (shared + own)


def test_the_next_turn_finds_the_answer_before_it_too() -> None:
    simulated = Simulated(Limits(kv_blocks=100))
    first = simulated.add([f"p{index}" for index in range(20)], answer=45)
    simulated.run()

    second = simulated.add([*first.prompt, *first.answer, "and", "now"])
    simulated.run()

    assert second.cached_tokens == 64 // BLOCK_TOKENS * BLOCK_TOKENS


def test_a_full_cache_forgets_what_was_used_longest_ago() -> None:
    simulated = Simulated(Limits(kv_blocks=8))
    old, young = [f"o{index}" for index in range(48)], [f"y{index}" for index in range(48)]
    for prompt in (old, young):
        simulated.add(prompt, answer=1)
        simulated.run()
    simulated.add(60, answer=1)
    simulated.run()

    again = simulated.add(young, answer=1)
    simulated.run()
    forgotten = simulated.add(old, answer=1)
    simulated.run()

    assert again.cached_tokens == 32
    assert forgotten.cached_tokens == 0


def test_a_long_prompt_does_not_stop_those_who_decode() -> None:
    simulated = Simulated(Limits(batched_tokens=64, kv_blocks=100))
    short = simulated.add(10, answer=20)
    simulated.step()
    simulated.add(600, answer=1)

    generated = []
    for _ in range(5):
        simulated.step()
        generated.append(short.generated)

    assert generated == [2, 3, 4, 5, 6]


def test_who_was_first_goes_on_when_blocks_run_out_and_the_last_computes_again() -> None:
    simulated = Simulated(Limits(batched_tokens=512, sequences=4, kv_blocks=8))
    first, last = simulated.add(50, answer=60), simulated.add(50, answer=60)

    simulated.run()

    assert [sequence.number for sequence in simulated.finished] == [first.number, last.number]
    assert (first.preemptions, last.preemptions) == (0, 1)
    assert last.recomputed > 0
    assert last.prompt_computed == 50


def test_a_lower_priority_number_is_served_first() -> None:
    simulated = Simulated(Limits(sequences=1, kv_blocks=50))
    running = simulated.add(10, priority=5)
    simulated.step()
    later, sooner = simulated.add(10, priority=5), simulated.add(10, priority=1)

    simulated.run()

    assert [sequence.number for sequence in simulated.finished] == [
        s.number for s in (running, sooner, later)
    ]


def test_an_aborted_sequence_gives_its_blocks_back_at_the_next_step() -> None:
    simulated = Simulated(LIMITS)
    sequence = simulated.add(100, answer=40)
    simulated.step()
    assert simulated.scheduler.pool.used > 0

    simulated.scheduler.abort(sequence)
    simulated.step()

    assert simulated.scheduler.pool.used == 0
    assert (sequence.prompt_computed, sequence.generated) == (64, 0)


def test_a_sequence_that_could_never_be_served_is_refused() -> None:
    simulated = Simulated(LIMITS)

    with pytest.raises(TooLong):
        simulated.add(LIMITS.kv_blocks * BLOCK_TOKENS if LIMITS.kv_blocks else 0, answer=2)


def test_a_prefill_holds_its_blocks_until_they_are_fetched() -> None:
    simulated = Simulated(Limits(kv_blocks=20, hold_s=100.0))
    prefill = simulated.add(100, answer=1, keep_for_decode=True)
    simulated.step()
    scheduler = simulated.scheduler
    assert scheduler.pool.used == 7

    held = scheduler.transfers.read(prefill.number, simulated.now)
    simulated.run()

    assert held is not None
    assert held.tokens == 100
    assert scheduler.pool.used == 0
    assert simulated.now < 1.0
    assert scheduler.counters.holds_expired == 0
    assert scheduler.transfers.read(prefill.number, simulated.now) is None


def test_a_prefill_that_nobody_fetches_frees_its_blocks_in_the_end() -> None:
    simulated = Simulated(Limits(kv_blocks=20, hold_s=100.0))
    simulated.add(100, answer=1, keep_for_decode=True)

    simulated.run()

    assert simulated.now >= 100.0
    assert simulated.scheduler.pool.used == 0
    assert simulated.scheduler.counters.holds_expired == 1


def test_a_decode_pays_the_transfer_and_computes_only_the_last_token() -> None:
    simulated = Simulated(Limits(kv_blocks=400))
    decode = simulated.add(4000, answer=3, from_prefill=True)

    simulated.run()

    assert decode.transferred_tokens == 3999
    assert decode.prompt_computed == 1
    assert decode.first_token >= ROOFLINE.transfer_seconds(3999)
    assert simulated.scheduler.counters.prompt_transferred == 3999
    assert simulated.scheduler.pool.used == 0


def test_an_abort_during_the_transfer_frees_the_blocks() -> None:
    simulated = Simulated(Limits(kv_blocks=400))
    decode = simulated.add(4000, from_prefill=True)
    simulated.scheduler.begin_step(simulated.now)

    simulated.scheduler.abort(decode)
    simulated.run()

    assert simulated.scheduler.pool.used == 0
    assert simulated.scheduler.counters.generated == 0


def test_a_slow_sequence_slows_the_steps_that_it_is_part_of() -> None:
    plain, slowed = Simulated(LIMITS), Simulated(LIMITS)
    plain.add(10)
    slowed.add(10, slow_factor=10.0)

    plain.run()
    slowed.run()

    assert slowed.now == pytest.approx(10 * plain.now)
