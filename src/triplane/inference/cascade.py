"""A cascade: a cheap route's answer is held back until it is sure of itself, or the next route is asked."""

import math
from typing import Literal

import msgspec

from triplane.domain.completion import CompletionRequest
from triplane.domain.events import Delta, EngineEvent, Finished, ToolCallDelta
from triplane.inference.catalogue import Cascade

Verdict = Literal["hold", "show", "escalate"]


def asked_how_sure(request: CompletionRequest) -> CompletionRequest:
    """The same request, with the probabilities by which an answer is judged."""
    sampling = msgspec.structs.replace(request.sampling, logprobs=True)
    return msgspec.structs.replace(request, sampling=sampling)


class Probe:
    """Holds the first events of an answer back. `keep_logprobs`: the client has asked for them itself."""

    def __init__(self, cascade: Cascade, *, keep_logprobs: bool) -> None:
        self.route = cascade.route
        self.held: list[EngineEvent] = []
        self._cascade = cascade
        self._keep_logprobs = keep_logprobs
        self._logprobs: list[float] = []

    def judge(self, events: list[EngineEvent]) -> Verdict:
        """Take these events to those held. A call of a tool, or text without probabilities, isn't judged."""
        self.held += [self.shown(event) for event in events]
        for event in events:
            if isinstance(event, ToolCallDelta) or (isinstance(event, Delta) and not event.logprobs):
                return "show"
            if isinstance(event, Delta) and event.logprobs:
                self._logprobs += [float(token["logprob"]) for token in event.logprobs]
        is_over = any(isinstance(event, Finished) for event in events)
        if not is_over and len(self._logprobs) < self._cascade.probe_tokens:
            return "hold"
        return "show" if self.confidence >= self._cascade.min_confidence else "escalate"

    @property
    def confidence(self) -> float:
        """The geometric mean of the probabilities of the tokens so far."""
        tokens = self._logprobs[: self._cascade.probe_tokens]
        return math.exp(sum(tokens) / len(tokens)) if tokens else 1.0

    def shown(self, event: EngineEvent) -> EngineEvent:
        """The event as the client is to see it."""
        if isinstance(event, Delta) and event.logprobs and not self._keep_logprobs:
            return Delta(text=event.text)
        return event
