"""Continuous batching with chunked prefill, as vLLM's scheduler does it, driven step by step by its caller.

Each step computes at most `batched_tokens`: one for each sequence that decodes, the rest for prompts. A
sequence joins and leaves between steps. When blocks run out, the last in order gives its own back and
computes again later, so the first in order always goes on: nobody starves. No clock, no I/O: the caller says
what time it is (simulated seconds) and lets a step's duration pass.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from triplane.inference.simulated_engine.prefix_cache import BlockPool
from triplane.inference.simulated_engine.roofline import BLOCK_TOKENS, Roofline
from triplane.inference.simulated_engine.sequence import NOT_YET, Sequence, blocks_for
from triplane.inference.simulated_engine.transfers import Transfers


class TooLong(ValueError):
    """The sequence needs more KV blocks than there are."""


@dataclass(frozen=True)
class Limits:
    """`kv_blocks`: None takes what fits the GPU's memory. `hold_s` is how long a prefill's blocks wait to
    be fetched (vLLM's VLLM_NIXL_ABORT_REQUEST_TIMEOUT)."""

    batched_tokens: int = 8192
    sequences: int = 256
    kv_blocks: int | None = None
    hold_s: float = 480.0


@dataclass(frozen=True)
class Step:
    """What one step computes: each sequence and how many of its tokens."""

    work: list[tuple[Sequence, int]]
    duration_s: float


@dataclass
class Counters:
    """Running totals since the start. Computed tokens count whatever became of their request."""

    prefix_queries: int = 0
    prefix_hits: int = 0
    prompt_tokens: int = 0
    prompt_computed: int = 0
    prompt_transferred: int = 0
    recomputed: int = 0
    generated: int = 0
    preemptions: int = 0
    steps: int = 0
    holds_expired: int = 0


@dataclass
class StepResult:
    """Who got a token (each one more of its answer), and who of them is finished."""

    progressed: list[Sequence] = field(default_factory=list)
    finished: list[Sequence] = field(default_factory=list)


class Scheduler:
    def __init__(self, roofline: Roofline, limits: Limits = Limits()) -> None:
        self._roofline = roofline
        self._limits = limits
        self.pool = BlockPool(roofline.kv_blocks if limits.kv_blocks is None else limits.kv_blocks)
        self.counters = Counters()
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.transfers = Transfers(self.pool, roofline)
        self._aborted: list[Sequence] = []

    @property
    def kv_usage(self) -> float:
        """The part of the KV blocks that is held, 0 to 1."""
        return self.pool.used / self.pool.size

    @property
    def capacity_tokens(self) -> int:
        return self.pool.size * BLOCK_TOKENS

    def add(self, sequence: Sequence) -> None:
        """Let it wait for its turn. Raises TooLong if it could never be served."""
        if sequence.most_tokens > self.capacity_tokens:
            raise TooLong(f"{sequence.most_tokens} tokens don't fit {self.capacity_tokens}.")
        insort(self.waiting, sequence, key=_order)

    def abort(self, sequence: Sequence) -> None:
        """Give it up. A step on its way computes it to the end; the next one begins without it."""
        if not sequence.is_aborted and not sequence.is_finished:
            sequence.is_aborted = True
            self._aborted.append(sequence)

    def begin_step(self, now: float) -> Step | None:
        """The next step; None if there is nothing to compute now (`next_event` says when there may be).

        Let `duration_s` pass and call `end_step` before anything else is begun.
        """
        self._drop_aborted()
        self._admit_transferred(now)
        self.counters.holds_expired += self.transfers.expire(now)
        work: list[tuple[Sequence, int]] = []
        budget = self._limits.batched_tokens
        preemptions = self.counters.preemptions
        index = 0
        while index < len(self.running) and budget:
            sequence = self.running[index]
            tokens = min(sequence.missing, budget)
            if self._make_room(sequence, tokens):
                work.append((sequence, tokens))
                budget -= tokens
                index += 1
        if self.counters.preemptions == preemptions:
            self._admit(work, budget, now)
        if not work:
            return None
        duration = self._roofline.step_seconds((sequence.computed, tokens) for sequence, tokens in work)
        slowest = max(sequence.slow_factor for sequence, _ in work)
        return Step(work, duration * slowest)

    def end_step(self, step: Step, now: float) -> StepResult:
        """The step is done at `now`: book it, and say who got a token."""
        result = StepResult()
        counters = self.counters
        counters.steps += 1
        for sequence, tokens in step.work:
            self._book(sequence, tokens)
            if sequence.missing:
                continue
            if sequence.generated == 0:
                counters.prompt_tokens += len(sequence.prompt)
            sequence.generated += 1
            counters.generated += not sequence.only_reads
            if sequence.is_aborted:
                continue
            if sequence.first_token == NOT_YET:
                sequence.first_token = now
            result.progressed.append(sequence)
            if sequence.is_finished:
                result.finished.append(sequence)
                self._leave(sequence, now)
        return result

    def next_event(self) -> float | None:
        """When something changes by itself though nothing runs: a transfer ends, a hold expires."""
        return self.transfers.next_event()

    def _book(self, sequence: Sequence, tokens: int) -> None:
        counters = self.counters
        prompt_before, again_before = sequence.prompt_computed, sequence.recomputed
        sequence.count_computed(tokens)
        counters.prompt_computed += sequence.prompt_computed - prompt_before
        counters.recomputed += sequence.recomputed - again_before
        self._publish(sequence)

    def _publish(self, sequence: Sequence) -> None:
        full = sequence.computed // BLOCK_TOKENS
        if full > sequence.published:
            hashes = sequence.hashes_up_to(full)
            for index in range(sequence.published, full):
                self.pool.publish(sequence.blocks[index], hashes[index])
            sequence.published = full

    def _leave(self, sequence: Sequence, now: float) -> None:
        self.running.remove(sequence)
        if sequence.keep_for_decode:
            self.transfers.hold(sequence, now + self._limits.hold_s)
        else:
            self._give_back(sequence)

    def _make_room(self, sequence: Sequence, tokens: int) -> bool:
        """Get the blocks for its next tokens, from those behind it if need be; False if it had to yield."""
        new = blocks_for(sequence.computed + tokens) - len(sequence.blocks)
        if new <= 0:
            return True
        while (taken := self.pool.take((), new)) is None:
            last = self.running[-1]
            self._preempt(last)
            if last is sequence:
                return False
        sequence.blocks += taken
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._give_back(sequence)
        sequence.computed = 0
        sequence.preemptions += 1
        self.counters.preemptions += 1
        insort(self.waiting, sequence, key=_order)

    def _admit(self, work: list[tuple[Sequence, int]], budget: int, now: float) -> None:
        """Let those who wait join, in order, while tokens, places and blocks are left."""
        while self.waiting and budget:
            if len(self.running) + self.transfers.arriving >= self._limits.sequences:
                return
            sequence = self.waiting[0]
            fetches = sequence.from_prefill and sequence.first_admitted == NOT_YET
            hits = self.pool.find(sequence.hashes_up_to((sequence.length - 1) // BLOCK_TOKENS))
            computed = len(hits) * BLOCK_TOKENS
            tokens = sequence.length - computed if fetches else min(sequence.length - computed, budget)
            blocks = self.pool.take(hits, blocks_for(computed + tokens) - len(hits))
            if blocks is None:
                return
            del self.waiting[0]
            self._enter(sequence, blocks, computed, now)
            if fetches:
                self.transfers.fetch(sequence, now)
                continue
            insort(self.running, sequence, key=_order)
            work.append((sequence, tokens))
            budget -= tokens

    def _enter(self, sequence: Sequence, blocks: list[int], computed: int, now: float) -> None:
        sequence.blocks = blocks
        sequence.computed = computed
        sequence.published = computed // BLOCK_TOKENS
        if sequence.first_admitted == NOT_YET:
            sequence.first_admitted = now
            self.counters.prefix_queries += len(sequence.prompt)
        # After a preemption only what it never had itself is a find.
        found = max(0, computed - sequence.reached)
        sequence.cached_tokens += found
        sequence.reached += found
        self.counters.prefix_hits += found

    def _admit_transferred(self, now: float) -> None:
        for sequence in self.transfers.arrived(now):
            self.counters.prompt_transferred += sequence.transferred_tokens
            self._publish(sequence)
            insort(self.running, sequence, key=_order)

    def _drop_aborted(self) -> None:
        for sequence in self._aborted:
            was_running = _remove(self.running, sequence)
            if not was_running and _remove(self.waiting, sequence):
                continue
            if was_running or self.transfers.forget(sequence):
                self._give_back(sequence)
        self._aborted.clear()

    def _give_back(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.published = 0


def _order(sequence: Sequence) -> tuple[int, int]:
    return sequence.order


def _remove(line: list[Sequence], sequence: Sequence) -> bool:
    """Take it out of an ordered line, if it is there."""
    index = bisect_left(line, sequence.order, key=_order)
    if index < len(line) and line[index] is sequence:
        del line[index]
        return True
    return False
