"""A completion that runs: the engines' events as one stream, which outlives the failure of an engine.

While nothing was shown, a failed call is simply made again. After that the next engine goes on from the last
word shown, where it can; what the client has seen is never repeated.
"""

import io
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from triplane.domain.completion import CompletionRequest, Message
from triplane.domain.errors import TriplaneError
from triplane.domain.events import Delta, EngineEvent, Failed, Finished, Started, ToolCallDelta, Usage
from triplane.domain.money import EngineCall
from triplane.inference.attempts import Attempts
from triplane.inference.cascade import Probe, asked_how_sure


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
    ) -> None:
        self.degraded = list(degraded)
        self._request = request
        self._attempts = attempts
        self._probe = probe
        self._strip: Callable[[EngineEvent], EngineEvent] | None = None
        self._shown = io.StringIO()
        self._shown_tokens = 0
        self._has_called_tools = False
        self._ready: deque[EngineEvent] = deque()
        self._is_over = False
        self._is_closed = False

    @property
    def calls(self) -> list[EngineCall]:
        """Every engine call so far, each with what it has cost."""
        return self._attempts.all_calls

    @property
    def usage(self) -> Usage:
        return sum((call.usage for call in self.calls), Usage())

    @property
    def engine(self) -> str:
        """The replica that answers, or has answered."""
        calls = self.calls
        return calls[-1].replica if calls else ""

    async def open(self) -> None:
        """Have an engine take the request. Raises what stood in the way if none did."""
        request = asked_how_sure(self._request) if self._probe else self._request
        attempt = await self._attempts.start(request)
        started = Started(engine=attempt.replica.name, model=attempt.model, degraded=self.degraded)
        self._ready.append(started)

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
        if self._is_closed:
            return
        self._is_closed = True
        self._ready.clear()
        await self._attempts.over()

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
                await self._survive(error)
            return
        if self._is_closed:
            return
        if self._probe is not None:
            events = await self._judged(events, self._probe)
        for event in events:
            self._show(event)

    def _show(self, event: EngineEvent) -> None:
        if isinstance(event, Delta):
            self._shown.write(event.text)
            self._shown_tokens += 1
            self._ready.append(self._strip(event) if self._strip else event)
        elif isinstance(event, Finished):
            self._is_over = True
            self._ready.append(Finished(reason=event.reason, usage=self.usage))
        else:
            self._has_called_tools = self._has_called_tools or isinstance(event, ToolCallDelta)
            self._ready.append(event)

    async def _judged(self, events: list[EngineEvent], probe: Probe) -> list[EngineEvent]:
        """What may be shown of a cheap route's answer. One that isn't sure is asked of the next route."""
        verdict = probe.judge(events)
        if verdict == "hold":
            return []
        self._probe = None
        if verdict == "show":
            self._strip = probe.shown
            return probe.held
        await self._attempts.over()
        self._attempts.pass_route()
        await self._go_on(self._request)
        return []

    async def _survive(self, error: TriplaneError) -> None:
        """The call broke off. Make it again, or have another engine go on; else this was the last event."""
        self._probe = None
        await self._attempts.over()
        request = self._rest_of_request()
        if request is None or not error.retryable:
            self._fail(error)
            return
        if not await self._attempts.may_retry(error):
            self._attempts.pass_route()
        if request.continue_final_message:
            self._attempts.keep_continuing()
        await self._go_on(request, because=error)

    async def _go_on(self, request: CompletionRequest, because: TriplaneError | None = None) -> None:
        try:
            await self._attempts.start(request)
        except TriplaneError as error:
            self._fail(because or error)
            return
        if self._is_closed:
            await self._attempts.over()

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

    def _fail(self, error: TriplaneError) -> None:
        if self._is_closed:
            return
        self._is_over = True
        self._ready.append(
            Failed(code=error.code, message=error.message, retryable=error.retryable, usage=self.usage)
        )
