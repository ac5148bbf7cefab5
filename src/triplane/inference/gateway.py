"""The gateway: a request in, a typed event stream out. The one way to any engine; it knows no users.

Above it: orchestration, through its own ports, or a service of its own. Below: the fleet. One request, top
to bottom: the model's routes that can serve it → less of it under load → the engine calls of `Attempts`
(a fair slot, a replica, retries, the next route) → one stream of events, which outlives a failed engine.
"""

from collections.abc import Iterable, Sequence

import msgspec

from triplane.domain.completion import (
    CompletionRequest,
    ImagePart,
    JsonSchemaFormat,
    Message,
    ModelCard,
)
from triplane.domain.errors import InvalidRequest, ModelNotFound
from triplane.inference.attempts import Attempts
from triplane.inference.cascade import Probe
from triplane.inference.catalogue import Ability, Catalogue, Model
from triplane.inference.completion import RunningCompletion
from triplane.inference.degradation import names_of, steps_for, with_less_history, without_offered_tools
from triplane.inference.engines.engine import Engine
from triplane.inference.fleet import EngineBuilder, Fleet, RouteView
from triplane.inference.observer import GatewayObserver, SilentObserver
from triplane.inference.routing import order_routes


class Gateway:
    """Serves by a catalogue; `watch` it for as long as it serves, `close` gives all connections back."""

    def __init__(
        self, catalogue: Catalogue, build: EngineBuilder, *, observer: GatewayObserver | None = None
    ) -> None:
        self._fleet = Fleet(catalogue, build)
        self._observer = observer or SilentObserver()

    async def complete(self, request: CompletionRequest) -> RunningCompletion:
        """The running completion, once an engine has taken the request.

        Raises ModelNotFound, ContextTooLong, InvalidRequest, Overloaded, FirstTokenTimeout,
        EngineUnavailable, EngineFailed. What fails later, and can't be survived, arrives as `Failed`.
        """
        model = self._model(request.model)
        request, model, degraded = await self._degrade(request, model)
        routes = self._able_routes(request, model)
        attempts = Attempts(request, routes, self._fleet, self._observer)
        completion = RunningCompletion(
            request, attempts, probe=_probe(request, model, routes), degraded=degraded
        )
        await completion.open()
        return completion

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> list[int]:
        """The tokens of each message, its markers included. Raises ModelNotFound, DependencyFailed."""
        return await self._counting_engine(self._model(model)).count_tokens(messages)

    async def models(self) -> list[ModelCard]:
        return [self._fleet.catalogue.card(name) for name in self._fleet.catalogue.models]

    async def model(self, model_id: str) -> ModelCard:
        """Raises ModelNotFound."""
        self._model(model_id)
        return self._fleet.catalogue.card(model_id)

    async def check(self) -> None:
        """Whether every model can be served now. Raises EngineUnavailable."""
        await self._fleet.check()

    async def watch(self) -> None:
        """Look after the fleet, for as long as the process lives."""
        await self._fleet.watch()

    async def look(self) -> None:
        """Look at every replica now."""
        await self._fleet.look()

    async def reload(self, catalogue: Catalogue) -> None:
        """Serve by this catalogue from now on; what runs goes on."""
        await self._fleet.reload(catalogue)

    def fleet(self) -> list[RouteView]:
        """The routes as they are now."""
        return self._fleet.view()

    async def close(self) -> None:
        await self._fleet.close()

    def _model(self, model_id: str) -> Model:
        model = self._fleet.catalogue.models.get(model_id)
        if model is None:
            raise ModelNotFound(f"There is no model {model_id!r}. GET /v1/models lists them.", param="model")
        return model

    def _counting_engine(self, model: Model) -> Engine:
        """The engine whose tokenizer counts for the model: its first route's, one that is well."""
        pools = [self._fleet.pool(name) for name in order_routes(model, None)]
        available = (each for pool in pools for each in pool.replicas if each.is_available)
        return next(available, pools[0].replicas[0]).engine

    def _able_routes(self, request: CompletionRequest, model: Model) -> list[str]:
        """The model's routes in the order in which they are tried. Raises InvalidRequest: none can do it."""
        routes = order_routes(model, request.flow.affinity)
        for ability, param, what in _needs(request):
            routes = [name for name in routes if self._fleet.pool(name).route.can(ability)]
            if not routes:
                raise InvalidRequest(f"The model {request.model!r} can't {what}.", param=param)
        return routes

    async def _degrade(
        self, request: CompletionRequest, model: Model
    ) -> tuple[CompletionRequest, Model, list[str]]:
        """The request and model to serve, and what was left out because of the load."""
        if not model.degrade:
            return request, model, []
        first = self._fleet.pool(order_routes(model, request.flow.affinity)[0])
        wait_s = first.admission.predicted_wait_s(request.flow)
        degraded: list[str] = []
        for step in steps_for(model.degrade, wait_s):
            before = request
            if not step.tools:
                request = without_offered_tools(request)
            if step.context_tokens:
                counts = await self._counting_engine(model).count_tokens(request.messages)
                request = with_less_history(request, counts, step.context_tokens)
            if step.model:
                request = msgspec.structs.replace(request, model=step.model)
                model = self._model(step.model)
            if request is not before:
                degraded += names_of(step)
        for name in degraded:
            self._observer.degraded(request.model, name)
        return request, model, degraded


def _needs(request: CompletionRequest) -> Iterable[tuple[Ability, str, str]]:
    """What a request asks of a route: the ability, the field that asks, and the words for a refusal."""
    if request.tools and request.tool_choice != "none":
        yield "tools", "tools", "call tools"
    for index, message in enumerate(request.messages):
        if isinstance(message.content, list) and any(isinstance(p, ImagePart) for p in message.content):
            yield "vision", f"messages[{index}].content", "read images"
            break
    if isinstance(request.response_format, JsonSchemaFormat):
        yield "json_schema", "response_format", "follow a JSON schema"
    if request.sampling.logprobs:
        yield "logprobs", "logprobs", "give log probabilities"
    if request.continue_final_message:
        yield "continuation", "messages", "continue an unfinished answer"


def _probe(request: CompletionRequest, model: Model, routes: Sequence[str]) -> Probe | None:
    """The first route's answer is judged if it is the cascade's, and what is asked for is plain text."""
    cascade = model.cascade
    if cascade is None or routes[0] != cascade.route or len(routes) == 1:
        return None
    if request.tools or request.continue_final_message or request.response_format is not None:
        return None
    return Probe(cascade, keep_logprobs=bool(request.sampling.logprobs))
