"""The gateway: a request in, a typed event stream out. The one way to any engine; it knows no users.

Above it: orchestration, through its own ports, or a service of its own. Below: the fleet. One request, top
to bottom: the model's routes that can serve it → less of it under load → the engine calls of `Attempts`
(a fair slot, a replica, retries, the next route) → one stream of events, which outlives a failed engine.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec

from triplane.domain.completion import (
    Ability,
    CompletionRequest,
    ImagePart,
    JsonSchemaFormat,
    Message,
    ModelCard,
)
from triplane.domain.embeddings import EmbeddingRequest
from triplane.domain.errors import Busy, DependencyFailed, InvalidRequest, ModelNotFound
from triplane.domain.money import CallsMade
from triplane.domain.offers import CatalogueView
from triplane.inference.attempts import Attempts
from triplane.inference.cascade import Probe
from triplane.inference.catalogue import Catalogue, Model, Step
from triplane.inference.completion import RunningCompletion
from triplane.inference.degradation import steps_for, with_less_history, without_offered_tools
from triplane.inference.embedding import RunningEmbedding
from triplane.inference.embedding_cache import EmbeddingCache, EmbeddingStore
from triplane.inference.engines.engine import Engine
from triplane.inference.fleet import EngineBuilder, Fleet, RouteView
from triplane.inference.observer import GatewayObserver, SilentObserver
from triplane.inference.offers import card_of_model, catalogue_view
from triplane.inference.response_cache import CachedCompletion, ResponseCache, ResponseStore, may_cache
from triplane.inference.routing import order_routes

AnyCompletion = RunningCompletion | CachedCompletion


class Gateway:
    """Serves by a catalogue; `watch` it for as long as it serves, `close` gives all connections back."""

    def __init__(
        self,
        catalogue: Catalogue,
        build: EngineBuilder,
        *,
        observer: GatewayObserver | None = None,
        responses: ResponseStore | None = None,
        embeddings: EmbeddingStore | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = Fleet(catalogue, build, now)
        self._observer = observer or SilentObserver()
        self._responses = ResponseCache(responses) if responses else None
        self._embeddings = EmbeddingCache(embeddings) if embeddings else None

    async def complete(self, request: CompletionRequest, made: CallsMade | None = None) -> AnyCompletion:
        """The running completion, once an engine has taken the request; or the answer that is known.

        Raises ModelNotFound, ContextTooLong, InvalidRequest, Overloaded, FirstTokenTimeout,
        EngineUnavailable, EngineFailed; `made` has the calls then, and if it is cancelled. What fails later,
        and can't be survived, arrives as `Failed`.
        """
        self._model(request.model)
        cache = self._responses if may_cache(request) else None
        if cache and (known := await cache.find(request)):
            return known
        asked = request
        request, degraded = await self._degrade(request)
        model = self._model(request.model)
        routes = self._able_routes(request, model)
        probe = _probe(request, model, routes)
        attempts = Attempts(
            request, routes, self._fleet, self._observer, probed=probe.route if probe else None
        )
        keep = partial(cache.keep, asked) if cache and not degraded else None
        completion = RunningCompletion(request, attempts, probe=probe, degraded=degraded, keep=keep)
        try:
            await completion.open()
        except BaseException:
            try:
                await completion.aclose()
            finally:
                if made is not None:
                    made.calls = completion.calls
            raise
        return completion

    def embed(self, request: EmbeddingRequest) -> RunningEmbedding:
        """The embedding, not begun yet. Raises ModelNotFound, InvalidRequest (the model gives none)."""
        order = order_routes(self._model(request.model), request.flow.affinity)
        routes = [name for name in order if self._fleet.pool(name).route.can("embeddings")]
        if not routes:
            raise InvalidRequest(
                f"The model {request.model!r} gives no embeddings. Ask one that does.", param="model"
            )
        return RunningEmbedding(request, routes, self._fleet, self._observer, self._embeddings)

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> list[int]:
        """The tokens of each message, its markers included.

        Raises ModelNotFound, InvalidRequest (the model only embeds), DependencyFailed.
        """
        return await self._counting_engine(self._model(model)).count_tokens(messages)

    async def models(self) -> list[ModelCard]:
        return [card_of_model(self._fleet.catalogue, name) for name in self._fleet.catalogue.models]

    async def model(self, model_id: str) -> ModelCard:
        """Raises ModelNotFound."""
        self._model(model_id)
        return card_of_model(self._fleet.catalogue, model_id)

    async def catalogue(self) -> CatalogueView:
        """The models with their routes, and the plans."""
        return catalogue_view(self._fleet.catalogue)

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
        if not (pools := [pool for pool in pools if pool.route.chats]):
            raise _only_embeds()
        available = (each for pool in pools for each in pool.replicas if each.is_available)
        return next(available, pools[0].replicas[0]).engine

    def _able_routes(self, request: CompletionRequest, model: Model) -> list[str]:
        """The model's routes in the order in which they are tried. Raises InvalidRequest: none can do it."""
        routes = [
            name for name in order_routes(model, request.flow.affinity) if self._fleet.pool(name).route.chats
        ]
        if not routes:
            raise _only_embeds()
        for ability, param, what in _needs(request):
            routes = [name for name in routes if self._fleet.pool(name).route.can(ability)]
            if not routes:
                raise InvalidRequest(f"The model {request.model!r} can't {what}.", param=param)
        return routes

    async def _degrade(self, request: CompletionRequest) -> tuple[CompletionRequest, list[str]]:
        """The request to serve, and what was left out because of the load."""
        asked = request.model
        model = self._model(asked)
        degraded: list[str] = []
        if model.degrade:
            for step in steps_for(model.degrade, self._predicted_wait_s(request, model)):
                request = await self._take_step(request, step, degraded)
        for name in degraded:
            self._observer.degraded(asked, name)
        return request, degraded

    def _predicted_wait_s(self, request: CompletionRequest, model: Model) -> float:
        """At the first route that may be asked: one that is down is passed over at once."""
        pools = [self._fleet.pool(name) for name in self._able_routes(request, model)]
        first = next((pool for pool in pools if pool.has_available), None)
        return first.admission.predicted_wait_s(request.flow) if first else 0.0

    async def _take_step(
        self, request: CompletionRequest, step: Step, degraded: list[str]
    ) -> CompletionRequest:
        """The request with less, and in `degraded` what is missing; what changes nothing isn't named."""
        less = request
        if not step.tools and (less := without_offered_tools(request)) is not request:
            degraded.append("tools_off")
        if step.context_tokens:
            longer, less = less, await self._shortened(less, step.context_tokens)
            if less is not longer:
                degraded.append(f"context:{step.context_tokens}")
        if step.model and await self._would_do(step.model, less):
            less = msgspec.structs.replace(less, model=step.model)
            degraded.append(f"model:{step.model}")
        return less

    async def _shortened(self, request: CompletionRequest, most_tokens: int) -> CompletionRequest:
        """With less history; as it is, if no engine can count now."""
        try:
            counts = await self.count_tokens(request.model, request.messages)
        except (Busy, DependencyFailed):
            return request
        return with_less_history(request, counts, most_tokens)

    async def _would_do(self, name: str, request: CompletionRequest) -> bool:
        """Whether another model can serve the request: it has the abilities, and the context."""
        other = self._fleet.catalogue.models.get(name)
        needs = [ability for ability, _, _ in _needs(request)]
        routes = (self._fleet.pool(each).route for each in (other.route_names() if other else ()))
        able = (route for route in routes if route.chats and all(map(route.can, needs)))
        longest = max((route.context_length for route in able), default=0)
        if not longest or longest >= card_of_model(self._fleet.catalogue, request.model).context_length:
            return longest > 0
        try:
            counts = await self.count_tokens(name, request.messages)
        except (Busy, DependencyFailed):
            return False
        return sum(counts) + (request.sampling.max_tokens or 0) <= longest


def _only_embeds() -> InvalidRequest:
    return InvalidRequest(
        "This model gives embeddings and doesn't chat: send its texts to /v1/embeddings.", param="model"
    )


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
