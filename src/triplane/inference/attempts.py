"""The engine calls of one completion, one after another: a slot, a replica, a call; else the next one.

A call that fails is tried again on another replica of its route, as often as the route and its retry budget
allow; then the next route is asked. A route that is full or down is passed over at once.
"""

import asyncio
from collections.abc import Sequence

import msgspec
from opentelemetry import trace
from opentelemetry.propagate import inject
from opentelemetry.trace import Span, SpanKind

from triplane.domain.completion import CompletionRequest, text_of
from triplane.domain.errors import (
    Busy,
    ContextTooLong,
    DependencyFailed,
    EngineUnavailable,
    ModelNotFound,
    Overloaded,
    TriplaneError,
)
from triplane.domain.money import EngineCall
from triplane.inference.admission import Slot
from triplane.inference.attempt import Attempt
from triplane.inference.engines.engine import Hints, KvTransfer, PrefillEngine
from triplane.inference.fleet import Fleet, Pool
from triplane.inference.observer import GatewayObserver
from triplane.inference.replica import Replica
from triplane.inference.retries import backoff_s
from triplane.inference.routing import choose_replica

EXPECTED_ANSWER_TOKENS = 256
BYTES_PER_TOKEN = 4

_tracer = trace.get_tracer("triplane.inference")


class Attempts:
    """`routes` in the order in which they are tried. `calls` are those that have ended, `running` the other.

    `asked_at` is when the completion was asked for, in the loop's time.
    """

    def __init__(
        self, request: CompletionRequest, routes: Sequence[str], fleet: Fleet, observer: GatewayObserver
    ) -> None:
        self._now = asyncio.get_running_loop().time
        self.asked_at = self._now()
        self.calls: list[EngineCall] = []
        self.running: Attempt | None = None
        self._flow = request.flow
        self._model = request.model
        self._fleet = fleet
        self._observer = observer
        plan = fleet.catalogue.plan(request.flow.plan)
        self._hints = Hints(priority=plan.priority)
        self._pools = [fleet.pool(name) for name in routes]
        self._tried: list[Replica] = []
        self._retries = 0
        self._number = 0
        self._refusal: TriplaneError | None = None
        longest_s = max((pool.route.timeouts.total_s for pool in self._pools), default=0.0)
        self._end_by = self.asked_at + longest_s
        for pool in self._pools:
            pool.budget.request_came()

    @property
    def all_calls(self) -> list[EngineCall]:
        """Every call, the one that runs included as it stands."""
        return [*self.calls, self.running.bill] if self.running else self.calls

    async def start(self, request: CompletionRequest) -> Attempt:
        """The next call, once an engine has taken it. Raises what stood in the way if none did."""
        while self._pools and self._now() < self._end_by:
            pool = self._pools[0]
            try:
                slot = await self._enter(pool, request)
            except (Overloaded, EngineUnavailable) as error:
                self._note_refusal(error)
                self.pass_route()
                continue
            try:
                return await self._call(pool, slot, request)
            except (Busy, DependencyFailed, ContextTooLong, ModelNotFound) as error:
                self._note_refusal(error)
                if not await self.may_retry(error):
                    self.pass_route(larger_than=pool if isinstance(error, ContextTooLong) else None)
        raise self._refusal or EngineUnavailable("No engine can serve this now. Try again a little later.")

    async def may_retry(self, error: TriplaneError) -> bool:
        """Whether the current route is to be asked again, after this failure of a call; its pause is over."""
        pool = self._pools[0]
        if not isinstance(error, DependencyFailed | Overloaded) or not pool.has_available:
            return False
        if self._now() >= self._end_by or self._retries >= pool.route.retries or not pool.budget.take():
            return False
        self._retries += 1
        self._observer.retried(self._model, pool.name, error.code)
        if all(each in self._tried for each in pool.replicas if each.is_available):
            await asyncio.sleep(backoff_s(self._retries))
        return True

    def pass_route(self, larger_than: Pool | None = None) -> None:
        """Go on to the next route; to one with a larger context, if that is what lacked."""
        passed = self._pools.pop(0)
        self._tried.clear()
        self._retries = 0
        if larger_than is not None:
            self._pools = [
                pool for pool in self._pools if pool.route.context_length > passed.route.context_length
            ]
        if self._pools and self._refusal is not None:
            self._observer.retried(self._model, self._pools[0].name, self._refusal.code)

    def keep_continuing(self) -> None:
        """From now on only routes whose engines can go on with an answer."""
        self._pools = [pool for pool in self._pools if pool.route.can("continuation")]

    async def over(self) -> None:
        """The running call is over: what it cost is kept."""
        running, self.running = self.running, None
        if running is not None:
            await running.aclose()
            self.calls.append(running.bill)

    def _note_refusal(self, error: TriplaneError) -> None:
        """What is told in the end: that it is worth waiting, if any route said so; else the last word."""
        if not isinstance(self._refusal, Busy):
            self._refusal = error

    async def _enter(self, pool: Pool, request: CompletionRequest) -> Slot:
        """A slot of this route. Raises Overloaded and EngineUnavailable: it is full, or down."""
        if not pool.has_available:
            raise _unavailable(pool)
        pool.count_slots()
        try:
            slot = await pool.admission.enter(self._flow, _expected_tokens(request))
        except Overloaded:
            self._observer.shed(pool.name, self._flow.plan)
            raise
        self._observer.admitted(pool.name, self._flow.plan, slot.waited_s)
        return slot

    async def _call(self, pool: Pool, slot: Slot, request: CompletionRequest) -> Attempt:
        try:
            replica = choose_replica(pool.replicas, self._flow.affinity, self._tried)
            if replica is None:
                raise _unavailable(pool)
            self._tried.append(replica)
            kv_transfer = await self._prefill(pool, request)
            attempt = self._begin(pool, replica, request, is_prefilled=kv_transfer is not None)
            attempt.hold(slot)
        except BaseException:
            slot.release()
            raise
        self.running = attempt
        try:
            hints = msgspec.structs.replace(self._hints, kv_transfer=kv_transfer)
            await attempt.open(request, _trace_headers(attempt.span), hints)
        except BaseException:
            await self.over()
            raise
        return attempt

    async def _prefill(self, pool: Pool, request: CompletionRequest) -> KvTransfer | None:
        """Have the prefill pool read the prompt. None: the decoding engine has to read it itself."""
        replica = choose_replica(pool.prefill, None) if pool.prefill else None
        if replica is None or not isinstance(replica.engine, PrefillEngine):
            return None
        attempt = self._begin(pool, replica, request)
        try:
            async with asyncio.timeout_at(min(self._now() + pool.route.timeouts.first_token_s, self._end_by)):
                headers = _trace_headers(attempt.span)
                kv_transfer, usage = await replica.engine.prefill(request, headers, self._hints)
        except (TimeoutError, DependencyFailed, Overloaded) as error:
            late = EngineUnavailable("The prompt wasn't read in time.")
            attempt.fail(error if isinstance(error, TriplaneError) else late)
            self.calls.append(attempt.bill)
            return None
        except BaseException:
            await attempt.aclose()
            raise
        self.calls.append(attempt.finish_prefill(usage))
        return kv_transfer

    def _begin(
        self, pool: Pool, replica: Replica, request: CompletionRequest, *, is_prefilled: bool = False
    ) -> Attempt:
        self._number += 1
        return Attempt(
            self._number,
            pool,
            replica,
            self._observer.begin(
                model=request.model, route=pool.name, replica=replica.name, plan=self._flow.plan
            ),
            _span(request, pool, replica, self._number),
            asked_at=self.asked_at,
            end_by=self._end_by,
            is_prefilled=is_prefilled,
        )


def _unavailable(pool: Pool) -> TriplaneError:
    """Busy for a known time, or down for an unknown one."""
    waits = [each.busy_for_s for each in pool.replicas if each.busy_for_s > 0]
    if waits and len(waits) == len(pool.replicas):
        return Overloaded("The engine is busy. Try again a little later.", retry_after_s=min(waits))
    return EngineUnavailable("No engine of this model can be reached now. Try again a little later.")


def _expected_tokens(request: CompletionRequest) -> float:
    """About what it will cost, for the fair queue; corrected when it is known."""
    prompt = sum(len(text_of(message.content)) for message in request.messages) / BYTES_PER_TOKEN
    return prompt + min(request.sampling.max_tokens or EXPECTED_ANSWER_TOKENS, EXPECTED_ANSWER_TOKENS)


def _trace_headers(span: Span) -> dict[str, str]:
    headers: dict[str, str] = {}
    inject(headers, trace.set_span_in_context(span))
    return headers


def _span(request: CompletionRequest, pool: Pool, replica: Replica, number: int) -> Span:
    """One span a call, by OpenTelemetry's semantic conventions for generative AI; counts, never text."""
    sampling = request.sampling
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": pool.route.engine,
        "gen_ai.request.model": request.model,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "triplane.request_id": request.request_id,
        "triplane.route": pool.name,
        "triplane.replica": replica.name,
        "triplane.attempt": number,
    }
    return _tracer.start_span(
        f"chat {request.model}",
        kind=SpanKind.CLIENT,
        attributes={name: value for name, value in attributes.items() if value is not None},
    )
