"""The engine calls of one completion, one after another: a slot, a replica, a call; else the next one.

A call that fails is tried again on another replica of its route, as often as the route and its retry budget
allow; then the next route is asked. A route that is full or down is passed over at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec
from opentelemetry import trace
from opentelemetry.propagate import inject
from opentelemetry.trace import Span, SpanKind

from triplane.domain.completion import CompletionRequest, Sampling, text_of
from triplane.domain.embeddings import Embedded, EmbeddingRequest, estimated_input_tokens
from triplane.domain.errors import (
    Busy,
    ContextTooLong,
    DependencyFailed,
    EngineUnavailable,
    FirstTokenTimeout,
    ModelNotFound,
    Overloaded,
    TriplaneError,
)
from triplane.domain.money import EngineCall
from triplane.inference.admission import Slot
from triplane.inference.attempt import Attempt
from triplane.inference.cascade import asked_how_sure
from triplane.inference.engines.engine import Hints, KvTransfer, PrefillEngine
from triplane.inference.fleet import Fleet, Pool
from triplane.inference.observer import GatewayObserver
from triplane.inference.replica import Replica
from triplane.inference.retries import backoff_s
from triplane.inference.routing import choose_replica

EXPECTED_ANSWER_TOKENS = 256
BYTES_PER_TOKEN = 4
NO_SAMPLING = Sampling()

_tracer = trace.get_tracer("triplane.inference")

T = TypeVar("T")


class Attempts:
    """`routes` in the order in which they are tried. `calls` are those that have ended, `running` the other.

    `asked_at` is when the completion was asked for, in the loop's time. The route `probed`, if any, is asked
    how sure it is of its answer. `close` it in every case.
    """

    def __init__(
        self,
        request: CompletionRequest | EmbeddingRequest,
        routes: Sequence[str],
        fleet: Fleet,
        observer: GatewayObserver,
        *,
        probed: str | None = None,
    ) -> None:
        self._now = asyncio.get_running_loop().time
        self.asked_at = self._now()
        self.calls: list[EngineCall] = []
        self.running: Attempt | None = None
        self._flow = request.flow
        self._model = request.model
        self._observer = observer
        self._plan = fleet.catalogue.plan_name(request.flow.plan)
        self._hints = Hints(priority=fleet.catalogue.plan(self._plan).priority)
        self._pools = [fleet.pool(name) for name in routes]
        self._used = [*self._pools]
        self._entered: Pool | None = None
        self._probed_route = probed
        self._tried: list[Replica] = []
        self._retries = 0
        self._number = 0
        self._refusal: TriplaneError | None = None
        longest_s = max((pool.route.timeouts.total_s for pool in self._pools), default=0.0)
        self._end_by = self.asked_at + longest_s
        for pool in self._pools:
            pool.users += 1

    @property
    def all_calls(self) -> list[EngineCall]:
        """Every call, the one that runs included as it stands."""
        return [*self.calls, self.running.bill] if self.running else [*self.calls]

    async def start(self, request: CompletionRequest) -> Attempt:
        """The next call, once an engine has taken it. Raises what stood in the way if none did."""
        return await self._ask_routes(_expected_tokens(request), partial(self._call, request))

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Its vectors, once an engine has given them. May follow another one. Raises as `start` does."""
        return await self._ask_routes(estimated_input_tokens(request.inputs), partial(self._embed, request))

    async def _ask_routes(self, tokens: float, call: Callable[[Pool, Slot], Awaitable[T]]) -> T:
        """What the first call gives that doesn't fail."""
        while self._pools and self._now() < self._end_by:
            pool = self._pools[0]
            try:
                slot = await self._enter(pool, tokens)
            except (Overloaded, EngineUnavailable) as error:
                self._note_refusal(error)
                self._pass_route(error)
                continue
            try:
                return await call(pool, slot)
            except (Busy, DependencyFailed, ContextTooLong, ModelNotFound) as error:
                self._note_refusal(error)
                await self._retry_or_pass_route(error)
        raise self._refusal or EngineUnavailable("No engine can serve this now. Try again a little later.")

    async def start_after(self, error: TriplaneError, request: CompletionRequest) -> Attempt:
        """The next call behind one that broke off: a retry, or the next route. Raises as `start` does."""
        self._note_refusal(error)
        if request.continue_final_message and not self._pools[0].route.can("continuation"):
            self._pass_route(error)
        else:
            await self._retry_or_pass_route(error)
        if request.continue_final_message:
            self._pools = [pool for pool in self._pools if pool.route.can("continuation")]
        return await self.start(request)

    async def start_on_next_route(self, request: CompletionRequest) -> Attempt:
        """A call behind one whose answer wasn't good enough. Raises as `start` does."""
        self._pass_route(None)
        return await self.start(request)

    async def over(self) -> None:
        """The running call is over: what it cost is kept."""
        running = self.running
        if running is None:
            return
        try:
            await running.aclose()
        finally:
            if self.running is running:
                self.running = None
                self.calls.append(running.bill)

    async def close(self) -> None:
        """Nothing is called any more. Twice is harmless."""
        try:
            await self.over()
        finally:
            users, self._used = self._used, []
            for pool in users:
                pool.users -= 1

    async def _retry_or_pass_route(self, error: TriplaneError) -> None:
        if self._may_retry(error):
            await self._pause()
        else:
            self._pass_route(error)

    def _may_retry(self, error: TriplaneError) -> bool:
        """Whether the current route is to be asked again, after this failure of a call; it is paid for."""
        pool = self._pools[0]
        if not isinstance(error, DependencyFailed | Overloaded) or not pool.has_available:
            return False
        if self._now() >= self._end_by or self._retries >= pool.route.retries or not pool.budget.take():
            return False
        self._retries += 1
        self._observer.retried(self._model, pool.name, error.code)
        return True

    async def _pause(self) -> None:
        """Give replicas that were tried a moment; one that wasn't is asked at once."""
        if all(each in self._tried for each in self._pools[0].replicas if each.is_available):
            await asyncio.sleep(backoff_s(self._retries))

    def _pass_route(self, error: TriplaneError | None) -> None:
        """Go on to the next route; to one with a larger context, if that is what lacked."""
        passed = self._pools.pop(0).route
        self._tried.clear()
        self._retries = 0
        if isinstance(error, ContextTooLong):
            self._pools = [pool for pool in self._pools if pool.route.context_length > passed.context_length]
        if self._pools and error is not None:
            self._observer.retried(self._model, self._pools[0].name, error.code)

    def _note_refusal(self, error: TriplaneError) -> None:
        """What is told in the end: the shortest wait, if a route said how long; that trying again may help,
        if one has failed; that the request can't be served as it is, only if all said so."""
        noted = self._refusal
        if isinstance(noted, Busy) and isinstance(error, Busy):
            self._refusal = min(noted, error, key=lambda each: each.retry_after_s)
        elif noted is None or _hope(error) >= _hope(noted):
            self._refusal = error

    async def _enter(self, pool: Pool, tokens: float) -> Slot:
        """A slot of this route. Raises Overloaded and EngineUnavailable: it is full, or down."""
        if pool is not self._entered:
            self._entered = pool
            pool.budget.request_came()
        if not pool.has_available:
            raise pool.unavailable()
        try:
            async with asyncio.timeout_at(self._end_by):
                slot = await pool.admission.enter(self._flow, tokens)
        except TimeoutError as error:
            raise EngineUnavailable("No engine was free in the time that an answer may take.") from error
        except Overloaded:
            self._observer.shed(pool.name, self._plan)
            raise
        self._observer.admitted(pool.name, self._plan, slot.waited_s)
        return slot

    async def _call(self, request: CompletionRequest, pool: Pool, slot: Slot) -> Attempt:
        if pool.name == self._probed_route:
            request = asked_how_sure(request)
        try:
            kv_transfer = await self._prefill(pool, request)
            self.running = self._begin_on_slot(pool, slot, request, is_prefilled=kv_transfer is not None)
            hints = msgspec.structs.replace(self._hints, kv_transfer=kv_transfer)
            await self.running.open(request, _trace_headers(self.running.span), hints)
        except BaseException:
            await self.over()
            slot.release()  # where no call has begun on it
            raise
        return self.running

    async def _embed(self, request: EmbeddingRequest, pool: Pool, slot: Slot) -> Embedded:
        try:
            self.running = self._begin_on_slot(pool, slot, request)
            return await self.running.embed(request, _trace_headers(self.running.span))
        finally:
            await self.over()
            slot.release()  # where no call has begun on it

    async def _prefill(self, pool: Pool, request: CompletionRequest) -> KvTransfer | None:
        """Have the prefill pool read the prompt. None: the decoding engine has to read it itself."""
        replica = choose_replica(pool.prefill, None) if pool.prefill and pool.has_available else None
        if replica is None or not isinstance(replica.engine, PrefillEngine):
            return None
        attempt = self._begin(pool, replica, request)
        try:
            async with asyncio.timeout_at(min(self._now() + pool.route.timeouts.first_token_s, self._end_by)):
                headers = _trace_headers(attempt.span)
                kv_transfer, usage = await replica.engine.prefill(request, headers, self._hints)
            attempt.finish_whole(usage)
            return kv_transfer
        except TimeoutError:
            attempt.fail(FirstTokenTimeout("The prompt wasn't read in time."))
            return None
        except (DependencyFailed, Overloaded) as error:
            attempt.fail(error)
            return None
        except TriplaneError as error:
            raise attempt.fail(error) from None
        finally:
            await attempt.aclose()
            self.calls.append(attempt.bill)

    def _begin_on_slot(
        self,
        pool: Pool,
        slot: Slot,
        request: CompletionRequest | EmbeddingRequest,
        *,
        is_prefilled: bool = False,
    ) -> Attempt:
        """A call to the replica that suits best. Raises Overloaded, EngineUnavailable: there is none."""
        replica = choose_replica(pool.replicas, self._flow.affinity, self._tried)
        if replica is None:
            raise pool.unavailable()
        self._tried.append(replica)
        attempt = self._begin(pool, replica, request, is_prefilled=is_prefilled)
        attempt.hold(slot)
        return attempt

    def _begin(
        self,
        pool: Pool,
        replica: Replica,
        request: CompletionRequest | EmbeddingRequest,
        *,
        is_prefilled: bool = False,
    ) -> Attempt:
        self._number += 1
        return Attempt(
            self._number,
            pool,
            replica,
            self._observer.begin(model=request.model, route=pool.name, replica=replica.name, plan=self._plan),
            _span(request, pool, replica, self._number),
            asked_at=self.asked_at,
            end_by=self._end_by,
            is_prefilled=is_prefilled,
        )


def _hope(error: TriplaneError) -> int:
    """How much sense it makes to send the same again."""
    return 2 if isinstance(error, Busy) else 1 if error.retryable else 0


def _expected_tokens(request: CompletionRequest) -> float:
    """About what it will cost, for the fair queue; corrected when it is known."""
    prompt = sum(len(text_of(message.content)) for message in request.messages) / BYTES_PER_TOKEN
    return prompt + min(request.sampling.max_tokens or EXPECTED_ANSWER_TOKENS, EXPECTED_ANSWER_TOKENS)


def _trace_headers(span: Span) -> dict[str, str]:
    headers: dict[str, str] = {}
    inject(headers, trace.set_span_in_context(span))
    return headers


def _span(request: CompletionRequest | EmbeddingRequest, pool: Pool, replica: Replica, number: int) -> Span:
    """One span a call, by OpenTelemetry's semantic conventions for generative AI; counts, never text."""
    sampling = request.sampling if isinstance(request, CompletionRequest) else NO_SAMPLING
    operation = "chat" if isinstance(request, CompletionRequest) else "embeddings"
    attributes = {
        "gen_ai.operation.name": operation,
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
        f"{operation} {request.model}",
        kind=SpanKind.CLIENT,
        attributes={name: value for name, value in attributes.items() if value is not None},
    )
