"""From a stream's bytes to events, for any wire of server-sent events; a wire overrides `take_payload`."""

from triplane.domain.errors import EngineFailed, TriplaneError
from triplane.domain.events import EngineEvent, Finished, FinishReason, Usage
from triplane.inference.engines.sse import SseParser


class EventReader:
    """Holds what the stream has said so far. `reason` is set when the engine says why it ended."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.is_done = False
        self.reason: FinishReason | None = None
        self._sse = SseParser()
        self._broken: TriplaneError | None = None

    @property
    def is_broken(self) -> bool:
        """An error waits behind the events that came with it: the next `feed` raises it."""
        return self._broken is not None

    @property
    def usage(self) -> Usage:
        """The engine's own count if it has come, else the best guess so far."""
        raise NotImplementedError

    def feed(self, data: bytes) -> list[EngineEvent]:
        """The events that these bytes complete.

        Raises TriplaneError for an error or nonsense in them; for one behind events, at the next call.
        """
        if self._broken is not None:
            raise self._broken
        events: list[EngineEvent] = []
        try:
            for payload in self._sse.feed(data):
                if not self.is_done:
                    self.take_payload(payload, events)
        except TriplaneError as error:
            if not events:
                raise
            self._broken = error
        return events

    def take_payload(self, payload: bytes, events: list[EngineEvent]) -> None:
        """Append what one event's data means. Raises TriplaneError."""
        raise NotImplementedError

    def finish(self) -> Finished:
        """The last event, once the stream has ended as it should. Raises EngineFailed if it hasn't."""
        if self._broken is not None:
            raise self._broken
        if self.reason is None:
            raise EngineFailed("The engine's answer broke off.")
        self.is_done = True
        return Finished(reason=self.reason, usage=self.usage)
