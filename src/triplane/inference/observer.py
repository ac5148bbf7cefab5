"""What the gateway tells whoever measures it. Telemetry implements these; the default measures nothing."""

from typing import Protocol

from triplane.domain.events import FinishReason, Usage


class CallObserver(Protocol):
    """One engine call, from the moment that the gateway sends it until `ended`, which comes exactly once."""

    def first_token(self, ttft_s: float) -> None:
        """The first piece of the answer came, `ttft_s` after the gateway was asked."""
        ...

    def inter_token(self, gap_s: float) -> None:
        """A further piece came, `gap_s` after the one before."""
        ...

    def ended(self, usage: Usage, reason: FinishReason | None, error_code: str | None) -> None:
        """The call is over. Neither a reason nor an error code: the caller closed it."""
        ...


class GatewayObserver(Protocol):
    def begin(self, model: str, engine: str) -> CallObserver:
        """A call goes to an engine: one more in flight until its `ended`."""
        ...


class SilentCall:
    """A call that nobody measures."""

    def first_token(self, ttft_s: float) -> None:
        pass

    def inter_token(self, gap_s: float) -> None:
        pass

    def ended(self, usage: Usage, reason: FinishReason | None, error_code: str | None) -> None:
        pass


class SilentObserver:
    """Measures nothing."""

    def begin(self, model: str, engine: str) -> CallObserver:
        return SilentCall()
