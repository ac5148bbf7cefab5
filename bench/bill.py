"""What the gateway has billed, held against what the engines say they have computed."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from bench.client import BenchFailed
from bench.engine_processes import EngineProcess
from triplane.domain.events import FinishReason, Usage
from triplane.domain.limits import LimitKind, Scope
from triplane.domain.money import EngineCall, usage_of
from triplane.inference.observer import CallObserver, SilentCall, SilentObserver
from triplane.inference.simulated_engine.answering import RequestRecord


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens. `whole`: of calls whose answer was read to its end; `cut`: of all others. `wrong` counts whole
    answers that weren't billed to the token, and requests that were billed for more than was computed."""

    whole_billed: int = 0
    whole_computed: int = 0
    whole_prompt_billed: int = 0
    whole_prompt_computed: int = 0
    cut_calls: int = 0
    cut_billed: int = 0
    cut_computed: int = 0
    cut_prompt_billed: int = 0
    cut_prompt_computed: int = 0
    wrong: int = 0

    def __add__(self, other: "Bill") -> "Bill":
        return Bill(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    @property
    def is_right(self) -> bool:
        return not self.wrong and self.cut_billed <= self.cut_computed


class Ledger(SilentObserver):
    """Sees every call of a gateway end once. `note` what each client was told beside that."""

    def __init__(self) -> None:
        self.running = 0
        self.limited = 0
        self._billed = Usage()
        self._answered: dict[str, EngineCall] = {}
        self._told: dict[str, Usage] = {}
        self._known: dict[str, int] = {}

    def begin(self, *, model: str, route: str, replica: str, plan: str) -> CallObserver:
        self.running += 1
        return _Call(self)

    def ended(self, call: EngineCall) -> None:
        self.running -= 1
        self.add(call)

    def add(self, call: EngineCall) -> None:
        """A call is billed."""
        self._billed += call.usage

    def request_limited(self, scope: Scope, kind: LimitKind) -> None:
        self.limited += 1

    def note(self, request_id: str, calls: Sequence[EngineCall], *, is_answered: bool) -> None:
        """The completion of this request is closed."""
        self._told[request_id] = usage_of(calls)
        if is_answered:
            self._answered[request_id] = calls[-1]

    async def close(self, engines: Sequence[EngineProcess]) -> Bill:
        """The bill since the last one. Nothing may run meanwhile."""
        records: dict[str, list[RequestRecord]] = defaultdict(list)
        for engine in engines:
            for record in await self._new_records(engine):
                records[record.request_id.partition("-")[2]].append(record)
        whole, wrong = Bill(), 0
        for request_id, call in self._answered.items():
            billed = (call.usage.prompt_tokens, call.usage.completion_tokens)
            ended = [_computed(each) for each in records[request_id] if each.ended == "finished"]
            # A call that broke off behind the engine's last byte was made again: then there are two.
            computed = billed if billed in ended else (ended or [(0, 0)])[-1]
            wrong += billed != computed
            whole += _whole(billed, computed)
        for request_id, usage in self._told.items():
            wrong += usage.completion_tokens > sum(each.generated_tokens for each in records[request_id])
        every = [each for one in records.values() for each in one]
        bill = msgspec.structs.replace(
            whole,
            wrong=wrong,
            cut_calls=len(every) - len(self._answered),
            cut_billed=self._billed.completion_tokens - whole.whole_billed,
            cut_computed=sum(each.generated_tokens for each in every) - whole.whole_computed,
            cut_prompt_billed=self._billed.prompt_tokens - whole.whole_prompt_billed,
            cut_prompt_computed=sum(each.prompt_tokens for each in every) - whole.whole_prompt_computed,
        )
        self._billed = Usage()
        self._answered.clear()
        self._told.clear()
        return bill

    async def _new_records(self, engine: EngineProcess) -> list[RequestRecord]:
        told = await engine.simulation()
        ended = told.finished + told.aborted
        new = ended - self._known.get(engine.url, 0)
        self._known[engine.url] = ended
        records = await engine.records()
        if new > len(records):
            raise BenchFailed("the engine has forgotten requests: take smaller parts")
        return records[len(records) - new :]


def _computed(record: RequestRecord) -> tuple[int, int]:
    return record.prompt_tokens, record.generated_tokens


def _whole(billed: tuple[int, int], computed: tuple[int, int]) -> Bill:
    return Bill(
        whole_prompt_billed=billed[0],
        whole_billed=billed[1],
        whole_prompt_computed=computed[0],
        whole_computed=computed[1],
    )


class _Call(SilentCall):
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def ended(self, call: EngineCall, reason: FinishReason | None, error_code: str | None) -> None:
        self._ledger.ended(call)
