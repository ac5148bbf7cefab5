"""What each engine call has cost, written down as it ends: also one that failed, or was hung up on.

The gateway tells its observer of every call, in the context of the request that it is made for; so the calls
of a completion that never began are known too.
"""

import time
from contextvars import ContextVar

from triplane.domain.completion import CompletionRequest
from triplane.domain.embeddings import EmbeddingRequest
from triplane.domain.events import FinishReason, Usage
from triplane.domain.money import EngineCall
from triplane.inference.observer import CallObserver, GatewayObserver
from triplane.inference.service.usage_log import Outcome, UsageLog, usage_line


class Bill:
    """The calls of one request: `usage` is the sum of those that have ended."""

    def __init__(self, request: CompletionRequest | EmbeddingRequest) -> None:
        self.request = request
        self.usage = Usage()


_BILL: ContextVar[Bill] = ContextVar("bill")


def open_bill(request: CompletionRequest | EmbeddingRequest) -> Bill:
    """What the present task, and those it starts, have engines compute from now on is for this request."""
    bill = Bill(request)
    _BILL.set(bill)
    return bill


class CallMeter:
    """The gateway's observer: it passes on what it is told, and writes a line for each call that ends."""

    def __init__(self, observer: GatewayObserver, usage_log: UsageLog) -> None:
        self._usage_log = usage_log
        self._begin = observer.begin
        self.admitted = observer.admitted
        self.shed = observer.shed
        self.retried = observer.retried
        self.degraded = observer.degraded
        self.embeddings_looked_up = observer.embeddings_looked_up

    def begin(self, *, model: str, route: str, replica: str, plan: str) -> CallObserver:
        observer = self._begin(model=model, route=route, replica=replica, plan=plan)
        bill = _BILL.get(None)
        return _MeteredCall(observer, bill, self._usage_log) if bill else observer


class _MeteredCall:
    """Nothing is added to what a token costs."""

    def __init__(self, observer: CallObserver, bill: Bill, usage_log: UsageLog) -> None:
        self.first_token = observer.first_token
        self.inter_token = observer.inter_token
        self._ended = observer.ended
        self._bill = bill
        self._usage_log = usage_log

    def ended(self, call: EngineCall, reason: FinishReason | None, error_code: str | None) -> None:
        self._bill.usage += call.usage
        outcome: Outcome = "failed" if error_code else "complete" if reason else "cancelled"
        self._usage_log.add(usage_line(self._bill.request, call, time.time(), outcome, error_code))
        self._ended(call, reason, error_code)
