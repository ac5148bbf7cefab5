"""How many calls a gateway has made at once, seen from beside it."""

from triplane.domain.events import FinishReason
from triplane.domain.money import EngineCall
from triplane.inference.observer import CallObserver, SilentCall, SilentObserver


class SlotsSeen(SilentObserver):
    """`most` calls ran at once, of all clients together; `waits_s`: how long each request was queued."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.waits_s: list[float] = []

    def begin(self, *, model: str, route: str, replica: str, plan: str) -> CallObserver:
        self.running += 1
        self.most = max(self.most, self.running)
        return _Call(self)

    def admitted(self, route: str, plan: str, waited_s: float) -> None:
        self.waits_s.append(waited_s)


class _Call(SilentCall):
    def __init__(self, seen: SlotsSeen) -> None:
        self._seen = seen

    def ended(self, call: EngineCall, reason: FinishReason | None, error_code: str | None) -> None:
        self._seen.running -= 1
