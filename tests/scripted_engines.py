"""Engines in memory that do what a test has written down, call by call, and gateways over them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from instant_loop import now
from triplane.domain.completion import CompletionRequest, Flow, Message, ModelCard, Sampling
from triplane.domain.errors import EngineFailed, EngineUnavailable, TriplaneError
from triplane.domain.events import Delta, EngineEvent, Finished, FinishReason, ToolCallDelta, Usage
from triplane.domain.money import EngineCall
from triplane.inference.catalogue import parse_catalogue
from triplane.inference.engines.engine import NO_HINTS, EngineLoad, EngineStream, Hints, KvTransfer
from triplane.inference.gateway import Gateway
from triplane.inference.observer import CallObserver, SilentObserver

MODEL = "fast"
PROMPT_TOKENS = 10
PRICE = {"input": 1, "output": 2}
"""Of every scripted route, in dollars for a million tokens: 1,000 and 2,000 nano-dollars a token."""


class Hang:
    """The engine says nothing any more."""


HANG = Hang()
Step = str | EngineEvent | TriplaneError | Hang | list[EngineEvent]


@dataclass
class Script:
    """What one call gives: `start` raises `refuses` or hangs; then each read gives the next step.

    A text is a Delta. Behind the steps the answer ends with `reason`; None ends it without saying so.
    """

    steps: Sequence[Step] = ()
    refuses: TriplaneError | None = None
    start_hangs: bool = False
    reason: FinishReason | None = "stop"
    tokens_each: int = 1


def says(*steps: Step, **how: Any) -> Script:
    return Script(steps=steps, **how)


def refuses(error: TriplaneError) -> Script:
    return Script(refuses=error)


def sure(text: str, logprob: float = -0.01) -> Delta:
    """A token of an answer whose log probability is known."""
    return Delta(text=text, logprobs=[{"token": text, "logprob": logprob}])


class ScriptedStream:
    def __init__(self, script: Script, model: str) -> None:
        self.is_closed = False
        self.usage = Usage(prompt_tokens=PROMPT_TOKENS)
        self.model = model
        self._script = script
        self._steps = list(script.steps)
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read(self) -> list[EngineEvent] | None:
        await asyncio.sleep(0)
        if self._broken.done():
            self._broken.result()
        if not self._steps:
            reason, self._script.reason = self._script.reason, None
            return [Finished(reason=reason, usage=self.usage)] if reason else None
        step = self._steps.pop(0)
        if isinstance(step, Hang):
            await asyncio.shield(self._broken)
            raise AssertionError
        if isinstance(step, TriplaneError):
            raise step
        if isinstance(step, str):
            return self._counted([Delta(text=step)])
        return self._counted(step if isinstance(step, list) else [step])

    def abort(self, error: TriplaneError) -> None:
        self.is_closed = True
        if not self._broken.done():
            self._broken.set_exception(error)
            self._broken.exception()

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.abort(EngineFailed("closed"))
        for _ in range(3):
            await asyncio.sleep(0)

    def _counted(self, events: list[EngineEvent]) -> list[EngineEvent]:
        tokens = sum(self._script.tokens_each for each in events if isinstance(each, Delta | ToolCallDelta))
        self.usage += Usage(completion_tokens=tokens)
        return events


class ScriptedEngine:
    """`scripts` are those of its calls, in order; the last one is played again and again."""

    def __init__(self, *scripts: Script) -> None:
        self.name = "not in a catalogue yet"
        self.card = ModelCard(id="scripted", context_length=1000, owned_by="test")
        self.requests: list[CompletionRequest] = []
        self.hints: list[Hints] = []
        self.asked_at: list[float] = []
        self.streams: list[ScriptedStream] = []
        self.is_well = True
        self.is_closed = False
        self.loads: EngineLoad | None = None
        self._scripts = list(scripts) or [says("ok")]

    async def start(
        self, request: CompletionRequest, headers: Mapping[str, str], hints: Hints = NO_HINTS
    ) -> EngineStream:
        script = self._next(request, hints)
        await asyncio.sleep(0)
        if script.start_hangs:
            await asyncio.get_running_loop().create_future()
        if script.refuses:
            raise script.refuses
        self.streams.append(ScriptedStream(script, f"model of {self.name}"))
        return self.streams[-1]

    async def count_tokens(self, messages: Sequence[Message]) -> list[int]:
        await asyncio.sleep(0)
        if not self.is_well:
            raise EngineUnavailable("down")
        return [len(str(message.content)) for message in messages]

    async def check(self) -> None:
        await asyncio.sleep(0)
        if not self.is_well:
            raise EngineUnavailable("down")

    async def load(self) -> EngineLoad | None:
        return self.loads

    async def close(self) -> None:
        self.is_closed = True

    @property
    def open_streams(self) -> int:
        return sum(not each.is_closed for each in self.streams)

    def _next(self, request: CompletionRequest, hints: Hints) -> Script:
        self.is_closed = False
        self.requests.append(request)
        self.hints.append(hints)
        self.asked_at.append(now())
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        return Script(**vars(script))


class ScriptedPrefillEngine(ScriptedEngine):
    """Reads prompts: each script's refusal or hanging is the prefill's."""

    async def prefill(
        self, request: CompletionRequest, headers: Mapping[str, str], hints: Hints = NO_HINTS
    ) -> tuple[KvTransfer, Usage]:
        script = self._next(request, hints)
        await asyncio.sleep(0)
        if script.start_hangs:
            await asyncio.get_running_loop().create_future()
        if script.refuses:
            raise script.refuses
        return {"remote": self.name}, Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=1)


class BillRecorder(SilentObserver):
    """Notes every call as it ends, and what was told of retries and degradation."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended_calls: list[EngineCall] = []
        self.codes: list[str | None] = []
        self.retries: list[tuple[str, str]] = []
        self.sheds: list[str] = []
        self.degradations: list[tuple[str, str]] = []

    def begin(self, *, model: str, route: str, replica: str, plan: str) -> CallObserver:
        self.begun += 1
        return self

    def first_token(self, ttft_s: float) -> None:
        pass

    def inter_token(self, gap_s: float) -> None:
        pass

    def ended(self, call: EngineCall, reason: FinishReason | None, error_code: str | None) -> None:
        self.ended_calls.append(call)
        self.codes.append(error_code)

    def retried(self, model: str, route: str, reason: str) -> None:
        self.retries.append((route, reason))

    def shed(self, route: str, plan: str) -> None:
        self.sheds.append(route)

    def degraded(self, model: str, step: str) -> None:
        self.degradations.append((model, step))


@dataclass
class Scene:
    """A gateway over scripted engines, on the running loop's clock."""

    gateway: Gateway
    bills: BillRecorder
    engines: dict[str, ScriptedEngine] = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        return sum(each.in_flight for route in self.gateway.fleet() for each in route.replicas)

    @property
    def held(self) -> int:
        return sum(route.held + route.waiting for route in self.gateway.fleet())

    def assert_nothing_is_left(self) -> None:
        """No slot, no call in flight, no open stream, no half-open breaker that waits for a trial's end."""
        assert (self.held, self.in_flight) == (0, 0)
        assert self.bills.begun == len(self.bills.ended_calls)
        for engine in self.engines.values():
            assert engine.open_streams == 0


def scene(
    routes: Mapping[str, ScriptedEngine | Sequence[ScriptedEngine]],
    *,
    prefill: ScriptedPrefillEngine | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    models: Mapping[str, Any] | None = None,
    plans: Mapping[str, Any] | None = None,
    **model: Any,
) -> Scene:
    """One model over these routes, each with its engine or engines; `settings` are by route."""
    engines: dict[str, ScriptedEngine] = {}
    tables: dict[str, Any] = {}
    for route, one in routes.items():
        own = [one] if isinstance(one, ScriptedEngine) else list(one)
        urls = [f"http://{route}-{number}" for number in range(len(own))]
        tables[route] = {
            "engine": "vllm",
            "urls": urls,
            "context_length": 1000,
            "price": PRICE,
            **((settings or {}).get(route) or {}),
        }
        if prefill:
            tables[route]["prefill_urls"] = ["http://prefill"]
            engines["http://prefill"] = prefill
        engines |= dict(zip(urls, own, strict=True))
    for url, engine in engines.items():
        engine.name = url.removeprefix("http://")
    catalogue = parse_catalogue(
        {
            "routes": tables,
            "models": {MODEL: {"routes": list(routes), **model}, **(models or {})},
            "plans": plans or {},
        }
    )
    bills = BillRecorder()
    gateway = Gateway(catalogue, lambda _name, _route, url: engines[url], observer=bills, now=now)
    return Scene(gateway, bills, engines)


def ask(**fields: Any) -> CompletionRequest:
    """A request for the model; `max_tokens` and the flow's fields may stand beside the request's."""
    flow = {name: fields.pop(name) for name in ("tenant", "user", "plan", "affinity") if name in fields}
    sampling = {name: fields.pop(name) for name in ("max_tokens", "logprobs") if name in fields}
    return CompletionRequest(
        **{
            "request_id": "req_test",
            "model": MODEL,
            "messages": [Message(role="user", content="Hi")],
            "sampling": Sampling(**sampling),
            "flow": Flow(**flow),
            **fields,
        }
    )


@dataclass
class Told:
    """What a client saw of one completion, and its bill."""

    events: list[EngineEvent]
    calls: list[EngineCall]

    @property
    def text(self) -> str:
        return "".join(each.text for each in self.events if isinstance(each, Delta))

    @property
    def last(self) -> EngineEvent:
        return self.events[-1]

    @property
    def routes(self) -> list[str]:
        return [call.route for call in self.calls]


async def complete(gateway: Gateway, request: CompletionRequest) -> Told:
    completion = await gateway.complete(request)
    try:
        events = [event async for event in completion]
    finally:
        await completion.aclose()
    return Told(events, completion.calls)
