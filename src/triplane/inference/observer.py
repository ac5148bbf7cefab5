"""What the gateway tells whoever measures it. Telemetry implements these; the default measures nothing."""

from typing import Protocol

from triplane.domain.events import FinishReason
from triplane.domain.money import EngineCall


class CallObserver(Protocol):
    """One engine call, from the moment that the gateway sends it until `ended`, which comes exactly once."""

    def first_token(self, ttft_s: float) -> None:
        """The first piece of the answer came, `ttft_s` after the gateway was asked."""
        ...

    def inter_token(self, gap_s: float) -> None:
        """A further piece came, `gap_s` after the one before."""
        ...

    def ended(self, call: EngineCall, reason: FinishReason | None, error_code: str | None) -> None:
        """The call is over. Neither a reason nor an error code: the caller closed it."""
        ...


class GatewayObserver(Protocol):
    def begin(self, *, model: str, route: str, replica: str, plan: str) -> CallObserver:
        """A call goes to an engine: one more in flight until its `ended`. All are names of the catalogue."""
        ...

    def admitted(self, route: str, plan: str, waited_s: float) -> None:
        """A request got a slot of this route."""
        ...

    def shed(self, route: str, plan: str) -> None:
        """A request was refused at this route's queue."""
        ...

    def retried(self, model: str, route: str, reason: str) -> None:
        """A call failed with this code, and another one follows."""
        ...

    def degraded(self, model: str, step: str) -> None:
        """A request was served with less than it asked for."""
        ...

    def embeddings_looked_up(self, model: str, *, hits: int, misses: int) -> None:
        """So many inputs were in the embedding cache, and so many weren't."""
        ...


class SilentCall:
    """A call that nobody measures."""

    def first_token(self, ttft_s: float) -> None:
        pass

    def inter_token(self, gap_s: float) -> None:
        pass

    def ended(self, call: EngineCall, reason: FinishReason | None, error_code: str | None) -> None:
        pass


class SilentObserver:
    """Measures nothing."""

    def begin(self, *, model: str, route: str, replica: str, plan: str) -> CallObserver:
        return SilentCall()

    def admitted(self, route: str, plan: str, waited_s: float) -> None:
        pass

    def shed(self, route: str, plan: str) -> None:
        pass

    def retried(self, model: str, route: str, reason: str) -> None:
        pass

    def degraded(self, model: str, step: str) -> None:
        pass

    def embeddings_looked_up(self, model: str, *, hits: int, misses: int) -> None:
        pass
