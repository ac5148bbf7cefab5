"""Fleets for tests: simulated engines in this process, and a gateway whose catalogue names them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from simulated_engines import running_simulated_engines
from triplane.domain.completion import CompletionRequest, Flow, Message, Sampling
from triplane.domain.events import Delta, EngineEvent, Finished, Usage
from triplane.domain.money import EngineCall
from triplane.inference.catalogue import parse_catalogue
from triplane.inference.embedding_cache import EmbeddingStore
from triplane.inference.engines.opening import EngineOpener
from triplane.inference.gateway import Gateway
from triplane.inference.observer import GatewayObserver
from triplane.inference.response_cache import ResponseStore
from triplane.inference.simulated_engine.faults import Fault, FaultPlan
from triplane.inference.simulated_engine.server import SimulatedEngineServer

MODEL = "fast"


@dataclass
class Fleet:
    """`engines` of the routes in the catalogue's order, and the gateway in front of them."""

    gateway: Gateway
    engines: list[SimulatedEngineServer]

    def break_engine(self, number: int, *faults: Fault) -> None:
        """What goes wrong there from now on; nothing, without faults."""
        self.engines[number].faults.set(FaultPlan(faults=list(faults)))

    @property
    def ports(self) -> list[int]:
        return [int(each.url.split(":")[2].removesuffix("/v1")) for each in self.engines]

    def requests_at(self, number: int) -> int:
        return self.engines[number].engine.simulation.requests

    @property
    def computed(self) -> Usage:
        """What all engines say they have computed; prompt tokens from a cache aside."""
        told = [each.engine.simulation for each in self.engines]
        return Usage(
            prompt_tokens=sum(each.prompt_computed for each in told),
            completion_tokens=sum(each.generated for each in told),
        )


@asynccontextmanager
async def running_fleet(
    routes: dict[str, dict[str, Any]],
    *,
    engine: dict[str, Any] | None = None,
    plans: dict[str, Any] | None = None,
    observer: GatewayObserver | None = None,
    responses: ResponseStore | None = None,
    embeddings: EmbeddingStore | None = None,
    **model: Any,
) -> AsyncIterator[Fleet]:
    """A fleet. A route's `replicas` is how many engines it has (one); the rest goes into the catalogue."""
    async with AsyncExitStack() as stack:
        engines: list[SimulatedEngineServer] = []
        tables: dict[str, Any] = {}
        for name, settings in routes.items():
            own = dict(settings)
            made = await stack.enter_async_context(
                running_simulated_engines(own.pop("replicas", 1), **{**(engine or {}), **own.pop("of", {})})
            )
            engines += made
            tables[name] = {
                "engine": "vllm",
                "urls": [each.url for each in made],
                "model": made[0].engine.model_id,
                "context_length": made[0].engine.max_model_len,
                **own,
            }
        models = {MODEL: {"routes": list(tables), **model}}
        catalogue = parse_catalogue({"routes": tables, "models": models, "plans": plans or {}})
        gateway = Gateway(
            catalogue, EngineOpener({}), observer=observer, responses=responses, embeddings=embeddings
        )
        stack.push_async_callback(gateway.close)
        yield Fleet(gateway, engines)


def ask(text: str = "Tell me about the sea.", **fields: Any) -> CompletionRequest:
    sampling = Sampling(max_tokens=fields.pop("max_tokens", 20), temperature=0.0)
    whose = {
        name: fields.pop(name) for name in ("tenant", "user", "plan", "affinity", "caches") if name in fields
    }
    flow = Flow(**{"tenant": "t", "user": "u", **whose})
    return CompletionRequest(
        request_id=fields.pop("request_id", "req_test"),
        model=fields.pop("model", MODEL),
        messages=[Message(role="user", content=text)],
        sampling=sampling,
        flow=flow,
        **fields,
    )


@dataclass
class Told:
    """What a client saw of one completion, and what it was billed."""

    events: list[EngineEvent]
    calls: list[EngineCall]
    usage: Usage

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))

    @property
    def finished(self) -> Finished:
        last = self.events[-1]
        assert isinstance(last, Finished), last
        return last

    @property
    def routes(self) -> list[str]:
        return [call.route for call in self.calls]


async def complete(gateway: Gateway, request: CompletionRequest) -> Told:
    async with aclosing(await gateway.complete(request)) as completion:
        events = [event async for event in completion]
    return Told(events, completion.calls, completion.usage)


def totals(all_told: Sequence[Told]) -> Usage:
    return sum((told.usage for told in all_told), Usage())
