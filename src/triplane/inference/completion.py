"""A completion that runs: the engine's stream as the gateway's events, timed, measured and traced."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from opentelemetry.trace import Span, Status, StatusCode

from triplane.domain.errors import EngineFailed, TriplaneError
from triplane.domain.events import (
    Delta,
    EngineEvent,
    Failed,
    Finished,
    FinishReason,
    Started,
    ToolCallDelta,
    Usage,
)
from triplane.inference.engines.engine import EngineStream
from triplane.inference.observer import GatewayObserver
from triplane.inference.timeouts import Timeouts, Watch


class RunningCall:
    """What is told about one engine call: its span, its measurements. `end` counts once."""

    def __init__(
        self, model: str, engine: str, observer: GatewayObserver, span: Span, timeouts: Timeouts
    ) -> None:
        self.engine = engine
        self.span = span
        self.timeouts = timeouts
        self._now = asyncio.get_running_loop().time
        self.asked_at = self._now()
        self._observer = observer.begin(model, engine)
        self._last_token_at = 0.0
        self._is_over = False

    def token(self) -> None:
        """A piece of the answer came."""
        now = self._now()
        if self._last_token_at:
            self._observer.inter_token(now - self._last_token_at)
        else:
            self._observer.first_token(now - self.asked_at)
            self.span.add_event("gen_ai.first_token")
        self._last_token_at = now

    def end(self, usage: Usage | None, error_code: str | None, reason: FinishReason | None = None) -> None:
        if self._is_over:
            return
        self._is_over = True
        used = usage or Usage()
        self._observer.ended(used, reason, error_code)
        self.span.set_attribute("gen_ai.usage.input_tokens", used.prompt_tokens)
        self.span.set_attribute("gen_ai.usage.output_tokens", used.completion_tokens)
        self.span.set_attribute("gen_ai.usage.cache_read.input_tokens", used.cached_tokens)
        if reason:
            self.span.set_attribute("gen_ai.response.finish_reasons", (reason,))
        if error_code:
            self.span.set_attribute("error.type", error_code)
            self.span.set_status(Status(StatusCode.ERROR, error_code))
        self.span.end()


class RunningCompletion:
    """Iterate it once for `Started (Delta | ToolCallDelta)* (Finished | Failed)`; close it in every case.

    Closing stops the engine's work at once; an iteration that waits in another task then just ends.
    Nothing is read ahead: a caller that stops iterating stops the pull from the engine.
    """

    def __init__(self, stream: EngineStream, call: RunningCall) -> None:
        self._stream = stream
        self._call = call
        self._watch = Watch(call.timeouts, call.asked_at, stream.abort)
        self._ready: deque[EngineEvent] = deque((Started(engine=call.engine, model=stream.model),))
        self._is_over = False
        self._is_closed = False

    @property
    def usage(self) -> Usage:
        return self._stream.usage

    @property
    def engine(self) -> str:
        return self._call.engine

    def __aiter__(self) -> AsyncIterator[EngineEvent]:
        return self

    async def __anext__(self) -> EngineEvent:
        while not self._ready:
            if self._is_over or self._is_closed:
                raise StopAsyncIteration
            await self._fill()
        return self._ready.popleft()

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._ready.clear()
        self._watch.stop()
        await self._stream.aclose()
        self._call.end(self.usage, None)

    async def _fill(self) -> None:
        """Take what the engine sends next; a failure becomes the last event."""
        self._watch.read_begins()
        try:
            events = await self._stream.read()
        except TriplaneError as error:
            self._fail(error)
            return
        finally:
            self._watch.read_ended()
        if self._is_closed:
            return
        if events is None:
            self._fail(EngineFailed("The engine's answer ended without saying so."))
            return
        for event in events:
            self._note(event)
            self._ready.append(event)

    def _note(self, event: EngineEvent) -> None:
        if isinstance(event, Delta | ToolCallDelta):
            self._watch.has_token = True
            self._call.token()
        elif isinstance(event, Finished):
            self._is_over = True
            self._watch.stop()
            self._call.end(event.usage, None, event.reason)

    def _fail(self, error: TriplaneError) -> None:
        if self._is_closed:
            return
        self._is_over = True
        self._watch.stop()
        self._stream.abort(error)
        self._call.end(self.usage, error.code)
        self._ready.append(
            Failed(code=error.code, message=error.message, retryable=error.retryable, usage=self.usage)
        )
