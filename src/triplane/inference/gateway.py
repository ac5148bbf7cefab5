"""The gateway: a request in, a typed event stream out; it knows engines, not users.

Above it: orchestration, through its own ports. Below: the engines, one file each in `engines/`. Each call is
bounded in time, measured through an observer and traced as one span that holds counts, never text.
"""

import asyncio
from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.propagate import inject
from opentelemetry.trace import Span, SpanKind

from triplane.domain.completion import CompletionRequest, ImagePart, Message, ModelCard
from triplane.domain.errors import FirstTokenTimeout, InvalidRequest, ModelNotFound, TriplaneError
from triplane.inference.completion import RunningCall, RunningCompletion
from triplane.inference.engines.engine import Engine, EngineStream
from triplane.inference.observer import GatewayObserver, SilentObserver
from triplane.inference.timeouts import Timeouts


class Gateway:
    """Sends each request to the engine of its model. `close` gives the engines' connections back."""

    def __init__(
        self,
        routes: Mapping[str, Engine],
        *,
        timeouts: Timeouts | None = None,
        observer: GatewayObserver | None = None,
    ) -> None:
        self._routes = dict(routes)
        self._timeouts = timeouts or Timeouts()
        self._observer = observer or SilentObserver()
        self._tracer = trace.get_tracer("triplane.inference")

    async def complete(self, request: CompletionRequest) -> RunningCompletion:
        """The running completion, once an engine has taken the request.

        Raises ModelNotFound, ContextTooLong, InvalidRequest, Overloaded, FirstTokenTimeout,
        EngineUnavailable, EngineFailed. What fails later arrives as `Failed`.
        """
        engine = self._engine(request.model)
        _require_servable(request, engine.card)
        call = RunningCall(
            request.model, engine.name, self._observer, self._span(request, engine), self._timeouts
        )
        try:
            stream = await self._start(engine, request, call.span)
        except TriplaneError as error:
            call.end(None, error.code)
            raise
        except asyncio.CancelledError:
            call.end(None, None)
            raise
        return RunningCompletion(stream, call)

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> list[int]:
        """The tokens of each message, its markers included. Raises ModelNotFound, DependencyFailed."""
        return await self._engine(model).count_tokens(messages)

    async def models(self) -> list[ModelCard]:
        return [engine.card for engine in self._routes.values()]

    async def model(self, model_id: str) -> ModelCard:
        """Raises ModelNotFound."""
        return self._engine(model_id).card

    async def check(self) -> None:
        """Whether every engine can serve now. Raises EngineUnavailable."""
        await asyncio.gather(*(engine.check() for engine in self._routes.values()))

    async def close(self) -> None:
        for engine in self._routes.values():
            await engine.close()

    def _engine(self, model_id: str) -> Engine:
        engine = self._routes.get(model_id)
        if engine is None:
            raise ModelNotFound(f"There is no model {model_id!r}. GET /v1/models lists them.", param="model")
        return engine

    async def _start(self, engine: Engine, request: CompletionRequest, span: Span) -> EngineStream:
        headers: dict[str, str] = {}
        inject(headers, trace.set_span_in_context(span))
        try:
            async with asyncio.timeout(self._timeouts.first_token_s):
                return await engine.start(request, headers)
        except TimeoutError as error:
            raise FirstTokenTimeout("The engine didn't begin in time. Try again.") from error

    def _span(self, request: CompletionRequest, engine: Engine) -> Span:
        sampling = request.sampling
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": engine.name,
            "gen_ai.request.model": request.model,
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "triplane.request_id": request.request_id,
        }
        return self._tracer.start_span(
            f"chat {request.model}",
            kind=SpanKind.CLIENT,
            attributes={name: value for name, value in attributes.items() if value is not None},
        )


def _require_servable(request: CompletionRequest, card: ModelCard) -> None:
    """Refuse what the model can't do before an engine sees it."""
    if request.tools and not card.supports_tools and request.tool_choice != "none":
        raise InvalidRequest(f"The model {card.id!r} can't call tools.", param="tools")
    if card.supports_images:
        return
    for index, message in enumerate(request.messages):
        if isinstance(message.content, list) and any(isinstance(p, ImagePart) for p in message.content):
            raise InvalidRequest(
                f"The model {card.id!r} can't read images.", param=f"messages[{index}].content"
            )
