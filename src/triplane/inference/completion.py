"""A completion that runs: the engines' events as one stream, which outlives the failure of an engine.

While nothing was shown, a failed call is simply made again. After that the next engine goes on from the last
word shown, where it can; what the client has seen is never repeated.
"""

import asyncio
import io
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from triplane.domain.completion import CompletionRequest, Message
from triplane.domain.errors import TriplaneError
from triplane.domain.events import Delta, EngineEvent, Failed, Finished, Started, ToolCallDelta, Usage
from triplane.domain.money import EngineCall, usage_of
from triplane.inference.attempt import Attempt
from triplane.inference.attempts import Attempts
from triplane.inference.cascade import Probe
from triplane.inference.response_cache import CachedAnswer

Keep = Callable[[CachedAnswer], Awaitable[None]]
"""Puts a whole answer where a request like this one finds it."""


class RunningCompletion:
    """Iterate it once for `Started (Delta | ToolCallDelta)* (Finished | Failed)`; close it in every case.

    Closing stops the engine's work at once; an iteration that waits in another task then just ends.
    Nothing is read ahead: a caller that stops iterating stops the pull from the engine. `degraded` names
    what was left out under load. `take_events` gives what one read of the engine brought, together.
    """

    def __init__(
        self,
        request: CompletionRequest,
        attempts: Attempts,
        *,
        probe: Probe | None = None,
        degraded: Sequence[str] = (),
        keep: Keep | None = None,
    ) -> None:
        self._keep = keep
        self.degraded = list(degraded)
        self._request = request
        self._attempts = attempts
        self._probe = probe
        self._strip: Callable[[EngineEvent], EngineEvent] | None = None
        self._shown = io.StringIO()
        self._shown_tokens = 0
        self._deltas = 0
        self._has_called_tools = False
        self._has_started = False
        self._ready: deque[EngineEvent] = deque()
        self._starting: asyncio.Task[Attempt] | None = None
        self._is_over = False
        self._is_closed = False

    @property
    def calls(self) -> list[EngineCall]:
        """Every engine call so far, each with what it has cost."""
        return self._attempts.all_calls

    @property
    def usage(self) -> Usage:
        return usage_of(self.calls)

    @property
    def engine(self) -> str:
        """The replica that answers, or has answered."""
        calls = self.calls
        return calls[-1].replica if calls else ""

    async def open(self) -> None:
        """Have an engine take the request. Raises what stood in the way if none did."""
        self._begin(await self._attempts.start(self._request))

    def __aiter__(self) -> AsyncIterator[EngineEvent]:
        return self

    async def __anext__(self) -> EngineEvent:
        while not self._ready:
            if self._is_over or self._is_closed:
                raise StopAsyncIteration
            await self._fill()
        return self._ready.popleft()

    async def take_events(self) -> list[EngineEvent]:
        """All that is there, waiting for something if nothing is; empty behind the end."""
        while not self._ready and not self._is_over and not self._is_closed:
            await self._fill()
        events = list(self._ready)
        self._ready.clear()
        return events

    async def aclose(self) -> None:
        self._is_closed = True
        self._ready.clear()
        try:
            if self._starting is not None:
                self._starting.cancel()
                await asyncio.wait((self._starting,))
        finally:
            await self._attempts.close()

    async def _fill(self) -> None:
        """Take what the engine sends next; a failure is survived, or becomes the last event."""
        attempt = self._attempts.running
        if attempt is None:
            self._is_over = True
            return
        try:
            events = await attempt.read()
        except TriplaneError as error:
            if not self._is_closed:
                await self._survive(attempt, error)
            return
        if self._is_closed:
            return
        if self._probe is not None:
            events = await self._judged(attempt, events, self._probe)
        for event in events:
            self._show(event)
        if self._keep is not None and self._is_over and isinstance(events[-1], Finished):
            await self._keep_answer(self._keep, attempt, events[-1])

    async def _keep_answer(self, keep: Keep, attempt: Attempt, finished: Finished) -> None:
        if self._has_called_tools or finished.reason == "content_filter":
            return
        answer = CachedAnswer(
            model=attempt.model, text=self._shown.getvalue(), reason=finished.reason, usage=self.usage
        )
        await keep(answer)

    def _begin(self, attempt: Attempt) -> None:
        """An engine took the request; who it is, is told once, when its answer may be shown."""
        if self._probe is not None and attempt.pool.name != self._probe.route:
            self._probe = None
        if self._probe is None:
            self._tell_started(attempt)

    def _tell_started(self, attempt: Attempt) -> None:
        if not self._has_started:
            self._has_started = True
            self._ready.append(
                Started(engine=attempt.replica.name, model=attempt.model, degraded=self.degraded)
            )

    def _show(self, event: EngineEvent) -> None:
        if self._is_over:
            return
        if isinstance(event, Delta):
            self._shown.write(event.text)
            self._deltas += 1
            self._ready.append(self._strip(event) if self._strip else event)
        elif isinstance(event, Finished):
            self._is_over = True
            self._ready.append(Finished(reason=event.reason, usage=self.usage))
        else:
            self._has_called_tools = self._has_called_tools or isinstance(event, ToolCallDelta)
            self._ready.append(event)

    async def _judged(self, attempt: Attempt, events: list[EngineEvent], probe: Probe) -> list[EngineEvent]:
        """What may be shown of a cheap route's answer. One that isn't sure is asked of the next route."""
        verdict = probe.judge(events)
        if verdict == "hold":
            return []
        self._probe = None
        if verdict == "show":
            self._strip = probe.shown
            self._tell_started(attempt)
            return probe.held
        await self._attempts.over()
        await self._go_on(attempt, self._attempts.start_on_next_route(self._request))
        return []

    async def _survive(self, attempt: Attempt, error: TriplaneError) -> None:
        """The call broke off. Make it again, or have another engine go on; else this was the last event."""
        await self._attempts.over()
        if self._deltas:
            self._shown_tokens += max(self._deltas, attempt.bill.usage.completion_tokens)
            self._deltas = 0
        request = self._rest_of_request()
        if request is None or not error.retryable:
            self._fail(attempt, error)
        elif self._probe is not None:
            self._probe = None
            await self._go_on(attempt, self._attempts.start_on_next_route(request), because=error)
        else:
            await self._go_on(attempt, self._attempts.start_after(error, request), because=error)

    async def _go_on(
        self, broken: Attempt, start: Coroutine[Any, Any, Attempt], because: TriplaneError | None = None
    ) -> None:
        """Have the next call begin. Closing, from another task, ends the wait for it."""
        if self._is_closed:
            start.close()
            return
        self._starting = asyncio.create_task(start)
        try:
            attempt = await self._starting
        except TriplaneError as error:
            self._fail(broken, because or error)
        except asyncio.CancelledError:
            if _is_being_cancelled() or not self._is_closed:
                raise
        else:
            if not self._is_closed:
                self._begin(attempt)
        finally:
            self._starting = None

    def _rest_of_request(self) -> CompletionRequest | None:
        """The request that goes on from what was shown; None if that can't be asked for."""
        text, request = self._shown.getvalue(), self._request
        if not text and not self._has_called_tools:
            return request
        most = request.sampling.max_tokens
        left = None if most is None else most - self._shown_tokens
        if self._has_called_tools or (left is not None and left < 1):
            return None
        messages = request.messages
        if request.continue_final_message:
            begun = messages[-1]
            text = str(begun.content or "") + text
            messages = messages[:-1]
        return msgspec.structs.replace(
            request,
            messages=[*messages, Message(role="assistant", content=text)],
            sampling=msgspec.structs.replace(request.sampling, max_tokens=left),
            continue_final_message=True,
        )

    def _fail(self, attempt: Attempt, error: TriplaneError) -> None:
        if self._is_closed:
            return
        self._tell_started(attempt)
        self._is_over = True
        self._ready.append(
            Failed(code=error.code, message=error.message, retryable=error.retryable, usage=self.usage)
        )


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
