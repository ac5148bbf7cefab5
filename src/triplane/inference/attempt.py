"""One call to one engine: begun, read, ended and billed exactly once, whatever happens to it."""

import asyncio
from collections.abc import Mapping

from opentelemetry.trace import Span, Status, StatusCode

from triplane.domain.completion import CompletionRequest
from triplane.domain.embeddings import Embedded, EmbeddingRequest
from triplane.domain.errors import EngineFailed, FirstTokenTimeout, Overloaded, Refused, TriplaneError
from triplane.domain.events import Delta, EngineEvent, Finished, FinishReason, ToolCallDelta, Usage
from triplane.domain.money import EngineCall
from triplane.inference.admission import Slot
from triplane.inference.engines.engine import EmbeddingEngine, EngineStream, Hints
from triplane.inference.fleet import Pool
from triplane.inference.observer import CallObserver
from triplane.inference.replica import Replica
from triplane.inference.timeouts import Watch


class Attempt:
    """`open` it, `read` it to its end or `fail`ure, `aclose` it in every case.

    `asked_at` is when the gateway was asked, `end_by` when the whole completion has to be over. Where another
    engine has read the prompt (`is_prefilled`) its tokens are that call's, not this one's.
    """

    def __init__(
        self,
        number: int,
        pool: Pool,
        replica: Replica,
        observer: CallObserver,
        span: Span,
        *,
        asked_at: float,
        end_by: float,
        is_prefilled: bool = False,
    ) -> None:
        self.pool = pool
        self.replica = replica
        self.span = span
        self.error: TriplaneError | None = None
        self._number = number
        self._observer = observer
        self._asked_at = asked_at
        self._end_by = end_by
        self._is_prefilled = is_prefilled
        self._now = asyncio.get_running_loop().time
        self._began_at = self._now()
        self._stream: EngineStream | None = None
        self._watch: Watch | None = None
        self._last_token_at = 0.0
        self._pieces = 0
        self._whole_usage = Usage()
        self._slot: Slot | None = None
        self._bill: EngineCall | None = None
        self._is_closing = False
        self._permit = replica.began()

    @property
    def usage(self) -> Usage:
        """What the engine has computed for this call so far."""
        usage = self._stream.usage if self._stream else self._whole_usage
        return Usage(completion_tokens=usage.completion_tokens) if self._is_prefilled else usage

    @property
    def model(self) -> str:
        """The engine's own name for what it serves."""
        return self._stream.model if self._stream else ""

    @property
    def has_token(self) -> bool:
        return self._last_token_at > 0

    @property
    def bill(self) -> EngineCall:
        """The call as it stands, or as it has ended."""
        if self._bill is not None:
            return self._bill
        usage = self.usage
        return EngineCall(
            attempt=self._number,
            route=self.pool.name,
            replica=self.replica.name,
            usage=usage,
            cost=self.pool.route.price.cost_of(usage),
        )

    def hold(self, slot: Slot) -> None:
        """The slot is this call's from now on, and is released with its end."""
        self._slot = slot

    async def open(self, request: CompletionRequest, headers: Mapping[str, str], hints: Hints) -> None:
        """Have the engine take the request. Whatever it raises has ended the call."""
        timeouts = self.pool.route.timeouts
        try:
            async with asyncio.timeout_at(min(self._began_at + timeouts.first_token_s, self._end_by)):
                self._stream = await self.replica.engine.start(request, headers, hints)
        except TimeoutError as error:
            raise self.fail(FirstTokenTimeout("The engine didn't begin in time. Try again.")) from error
        except TriplaneError as error:
            raise self.fail(error) from None
        except asyncio.CancelledError:
            self._end(None, None)
            raise
        self._watch = Watch(timeouts, self._began_at, self._end_by, self._stream.abort)

    async def read(self) -> list[EngineEvent]:
        """What the engine sends next. Raises TriplaneError, which has ended the call."""
        assert self._stream is not None
        assert self._watch is not None
        self._watch.read_begins()
        try:
            events = await self._stream.read()
        except TriplaneError as error:
            raise self.fail(error) from None
        finally:
            self._watch.read_ended()
        if events is None:
            raise self.fail(EngineFailed("The engine's answer ended without saying so."))
        for event in events:
            self._note(event)
        return events

    async def embed(self, request: EmbeddingRequest, headers: Mapping[str, str]) -> Embedded:
        """Have the engine embed: the whole call. Whatever it raises has ended it."""
        engine = self.replica.engine
        try:
            if not isinstance(engine, EmbeddingEngine):
                raise EngineFailed("This kind of engine gives no embeddings.")
            timeouts = self.pool.route.timeouts
            async with asyncio.timeout_at(min(self._began_at + timeouts.first_token_s, self._end_by)):
                embedded = await engine.embed(request, headers)
        except TimeoutError as error:
            raise self.fail(FirstTokenTimeout("The engine didn't answer in time. Try again.")) from error
        except TriplaneError as error:
            raise self.fail(error) from None
        except asyncio.CancelledError:
            self._end(None, None)
            raise
        self.finish_whole(embedded.usage)
        return embedded

    def fail(self, error: TriplaneError) -> TriplaneError:
        """The call is over, because of this; the engine's work is stopped."""
        self._hang_up(error)
        self.error = error
        self._end(None, None if self._is_closing else error)
        return error

    def finish_whole(self, usage: Usage) -> None:
        """The engine has answered without a stream, at this cost: it read a prompt, or embedded."""
        self._whole_usage = usage
        self._end("stop", None)

    async def aclose(self) -> None:
        """Stop the engine's work if it isn't finished. Twice is harmless. A read that waits ends in an error,
        which is no failure of the engine."""
        self._is_closing = True
        if self._watch is not None:
            self._watch.stop()
        try:
            if self._stream is not None:
                await self._stream.aclose()
        except asyncio.CancelledError:
            self._hang_up(EngineFailed("The call was closed."))
            raise
        finally:
            self._end(None, None)

    def _hang_up(self, error: TriplaneError) -> None:
        if self._stream is not None:
            self._stream.abort(error)

    def _note(self, event: EngineEvent) -> None:
        if isinstance(event, Delta | ToolCallDelta):
            now = self._now()
            if self._last_token_at:
                self._observer.inter_token(now - self._last_token_at)
            else:
                self._first_token(now)
            self._last_token_at = now
            self._pieces += 1
            self.pool.recent.tokens += 1
        elif isinstance(event, Finished):
            self._end(event.reason, None)

    def _first_token(self, now: float) -> None:
        assert self._watch is not None
        self._watch.has_token = True
        self._observer.first_token(now - self._asked_at)
        self.pool.recent.first_token(now - self._asked_at)
        self.span.add_event("gen_ai.first_token")
        self._permit.answered()

    def _end(self, reason: FinishReason | None, error: TriplaneError | None) -> None:
        if self._bill is not None:
            return
        self._bill = bill = self.bill
        if self._watch is not None:
            self._watch.stop()
        self.replica.ended()
        self._tell_breaker(reason, error)
        if self._slot is not None:
            self._slot.release(bill.usage.total_tokens - bill.usage.cached_tokens)
        self.pool.recent.ended(bill.usage.completion_tokens - self._pieces, is_error=error is not None)
        self._observer.ended(bill, reason, error.code if error else None)
        _close_span(self.span, bill.usage, reason, error)

    def _tell_breaker(self, reason: FinishReason | None, error: TriplaneError | None) -> None:
        """An engine isn't to blame that it is busy, nor that the completion's whole time is over."""
        if isinstance(error, Overloaded):
            self.replica.busy(error.retry_after_s)
            self._permit.left()
        elif isinstance(error, Refused):
            self._permit.succeeded()
        elif error is not None and self._now() < self._end_by:
            self._permit.failed()
        elif reason is not None:
            self._permit.succeeded()
        else:
            self._permit.left()


def _close_span(span: Span, usage: Usage, reason: FinishReason | None, error: TriplaneError | None) -> None:
    span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
    span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
    span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens)
    if reason:
        span.set_attribute("gen_ai.response.finish_reasons", (reason,))
    if error:
        span.set_attribute("error.type", error.code)
        span.set_status(Status(StatusCode.ERROR, error.code))
    span.end()
