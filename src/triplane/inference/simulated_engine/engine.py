"""The simulated engine behind its wire: it runs the scheduler's steps in time and hands out the tokens."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from uuid import uuid4

import msgspec

from triplane.domain.ids import new_id
from triplane.inference.simulated_engine.answering import Answering, RequestRecord
from triplane.inference.simulated_engine.clock import SimulatedClock
from triplane.inference.simulated_engine.connection import Exchange
from triplane.inference.simulated_engine.embedding import Embedding, Reading, read_inputs
from triplane.inference.simulated_engine.faults import Fault, Slow
from triplane.inference.simulated_engine.intake import Intake, Planned
from triplane.inference.simulated_engine.kv_fetch import KvFetch
from triplane.inference.simulated_engine.metrics import EngineMetrics
from triplane.inference.simulated_engine.options import EngineOptions
from triplane.inference.simulated_engine.scheduler import Scheduler
from triplane.inference.simulated_engine.sequence import Sequence
from triplane.inference.simulated_engine.wire import KvTransferParams

_RECORDS_KEPT = 10_000


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /simulation`: what this engine has done, exactly. Tokens are counted when they are computed,
    whatever becomes of their request.

    `prompt_computed` leaves out what was cached, transferred or computed again (`recomputed`). `delivered`
    are the tokens that were written to clients. `lag_s`: real time that this machine was too slow by.
    """

    simulated: bool = True
    model: str
    gpu: str
    gpus: int
    speed: float
    simulated_s: float
    lag_s: float
    steps: int
    kv_blocks: int
    kv_blocks_used: int
    running: int
    waiting: int
    transfers_arriving: int
    transfers_held: int
    transfers_expired: int
    requests: int
    finished: int
    aborted: int
    prompt_computed: int
    prompt_cached: int
    prompt_transferred: int
    recomputed: int
    generated: int
    delivered: int
    preemptions: int


class SimulatedEngine:
    """Make it in a running loop; `run` is its life."""

    def __init__(self, options: EngineOptions) -> None:
        """Raises UnknownProfile, ModelTooLarge."""
        self.options = options
        self.id = f"simulated-{uuid4().hex}"
        roofline = options.roofline()
        self.model_id = roofline.model.id
        self.scheduler = Scheduler(roofline, options.limits)
        self.max_model_len = min(
            options.max_model_len or roofline.model.context_length, self.scheduler.capacity_tokens
        )
        self.intake = Intake(
            self.model_id, self.max_model_len, options.scheduling_policy, options.answer_tokens
        )
        self.metrics = EngineMetrics(self.model_id, self.scheduler)
        self.created = int(time.time())
        self.records: deque[RequestRecord] = deque(maxlen=_RECORDS_KEPT)
        self.kv_address: tuple[str, int] = ("127.0.0.1", 0)
        """Where decode engines fetch KV caches from this one."""
        self._clock = SimulatedClock(options.speed)
        self._fetch = KvFetch()
        self._wake = asyncio.Event()
        self._answering: dict[int, Answering | Reading] = {}
        self._given_up: list[Answering | Reading] = []
        self._requests = self._finished = self._aborted = self._delivered = 0

    async def run(self) -> None:
        """Run step after step until cancelled."""
        try:
            while True:
                step = self.scheduler.begin_step(self._clock.now())
                if step is None:
                    self._file_given_up()
                    await self._wait()
                    continue
                now = await self._clock.pass_step(step.duration_s)
                result = self.scheduler.end_step(step, now)
                for sequence in result.progressed:
                    self._deliver(sequence, now)
                self._file_given_up()
        finally:
            for answering in list(self._answering.values()):
                answering.fail("The simulated engine has been stopped.")
            await self._fetch.close()

    def take(self, exchange: Exchange, planned: Planned, fault: Fault | None) -> None:
        """Answer this request, in time."""
        request, self._requests = planned.request, self._requests + 1
        transfer = request.kv_transfer_params or KvTransferParams()
        role = self.options.kv_role
        streams_usage = request.stream_options
        is_prefill = transfer.do_remote_decode and role in ("prefill", "both") and not request.stream
        sequence = Sequence(
            number=self._requests,
            prompt=planned.prompt,
            answer=planned.answer.tokens,
            arrived=self._clock.now(),
            priority=request.priority,
            cache_salt=request.cache_salt or "",
            keep_for_decode=is_prefill and planned.answer.reason == "length",
            slow_factor=fault.factor if isinstance(fault, Slow) else 1.0,
        )
        answering = Answering(
            request_id=request.request_id or exchange.headers.get("x-request-id") or new_id("req"),
            model=self.model_id,
            created=int(time.time()),
            exchange=exchange,
            sequence=sequence,
            reason=planned.answer.reason,
            fault=fault,
            give_up=self._give_up,
            streams=request.stream,
            include_usage=bool(streams_usage and streams_usage.include_usage),
            continuous_usage=bool(streams_usage and streams_usage.continuous_usage_stats),
            top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
            tool=(new_id("call"), planned.tool) if planned.tool else None,
        )
        self._answering[sequence.number] = answering
        answering.begin()
        if transfer.do_remote_prefill and role in ("decode", "both"):
            self._fetch.ask(transfer, self._when_asked(answering))
        elif not sequence.is_aborted:
            self._add(answering)

    def take_embedding(self, exchange: Exchange, fault: Fault | None) -> None:
        """Embed what this request asks for, each input a sequence of its own. Raises Rejected."""
        prompts, request = read_inputs(exchange.body, self.model_id, self.max_model_len)
        embedding = Embedding(exchange, request, self.model_id, self._give_up)
        for prompt in prompts:
            self._requests += 1
            sequence = Sequence(
                number=self._requests,
                prompt=prompt,
                answer=[""],
                arrived=self._clock.now(),
                slow_factor=fault.factor if isinstance(fault, Slow) else 1.0,
                only_reads=True,
            )
            reading = embedding.add(sequence)
            self._answering[sequence.number] = reading
            self._add(reading)

    def read_held(self, number: int) -> int | None:
        """A decode engine fetches the KV cache of this sequence: its tokens, or None if it isn't held."""
        held = self.scheduler.transfers.read(number, self._clock.now())
        self._wake.set()
        return None if held is None else held.tokens

    @property
    def simulation(self) -> Simulation:
        scheduler, counters = self.scheduler, self.scheduler.counters
        on_the_way = sum(answering.delivered for answering in self._answering.values())
        return Simulation(
            model=self.model_id,
            gpu=self.options.gpu,
            gpus=self.options.gpus,
            speed=self.options.speed,
            simulated_s=self._clock.now(),
            lag_s=self._clock.lag_s,
            steps=counters.steps,
            kv_blocks=scheduler.pool.size,
            kv_blocks_used=scheduler.pool.used,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            transfers_arriving=scheduler.transfers.arriving,
            transfers_held=scheduler.transfers.held,
            transfers_expired=counters.holds_expired,
            requests=self._requests,
            finished=self._finished,
            aborted=self._aborted,
            prompt_computed=counters.prompt_computed,
            prompt_cached=counters.prefix_hits,
            prompt_transferred=counters.prompt_transferred,
            recomputed=counters.recomputed,
            generated=counters.generated,
            delivered=self._delivered + on_the_way,
            preemptions=counters.preemptions,
        )

    def _when_asked(self, answering: Answering) -> Callable[[bool], None]:
        """What to do once the prefill engine has said whether it holds the blocks; if not, compute them."""

        def add(is_held: bool) -> None:
            answering.sequence.from_prefill = is_held
            if not answering.sequence.is_aborted:
                self._add(answering)

        return add

    def _add(self, answering: Answering | Reading) -> None:
        self.scheduler.add(answering.sequence)
        self._wake.set()

    def _deliver(self, sequence: Sequence, now: float) -> None:
        self.metrics.token(sequence, now)
        answering = self._answering[sequence.number]
        if sequence.is_finished:
            if sequence.keep_for_decode and isinstance(answering, Answering):
                answering.transfer = self._place_of(sequence)
            if not answering.ended:
                self.metrics.ended(
                    "length" if answering.reason == "length" else "stop", now - sequence.arrived
                )
        answering.progress()
        if answering.ended == "finished":
            self._finished += 1
            self._file(answering)

    def _place_of(self, sequence: Sequence) -> KvTransferParams:
        """Where a decode engine finds the KV cache of this prompt."""
        host, port = self.kv_address
        return KvTransferParams(
            do_remote_prefill=True,
            remote_block_ids=self.scheduler.transfers.blocks_of(sequence.number),
            remote_engine_id=self.id,
            remote_request_id=str(sequence.number),
            remote_host=host,
            remote_port=port,
            tp_size=self.options.gpus,
        )

    def _give_up(self, answering: Answering | Reading) -> None:
        self.scheduler.abort(answering.sequence)
        self._given_up.append(answering)
        self._wake.set()

    def _file_given_up(self) -> None:
        """Note what aborted requests have cost, now that their last step is over."""
        for answering in self._given_up:
            if answering.sequence.number in self._answering and answering.ended:
                self._aborted += 1
                self.metrics.ended("abort", self._clock.now() - answering.sequence.arrived)
                self._file(answering)
        self._given_up.clear()

    def _file(self, answering: Answering | Reading) -> None:
        del self._answering[answering.sequence.number]
        self._delivered += answering.delivered
        self.records.append(answering.record)

    async def _wait(self) -> None:
        """Until a request comes or goes, or a transfer has something to do."""
        self._wake.clear()
        event = self.scheduler.next_event()
        await self._clock.pass_idle(self._wake, None if event is None else event - self._clock.now())
