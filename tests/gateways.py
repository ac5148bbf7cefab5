"""Gateways for tests: over one engine that the test has made, or over a catalogue of addresses."""

from typing import Any

from triplane.domain.events import Usage
from triplane.domain.money import EngineCall
from triplane.inference.catalogue import Catalogue, Model, Route
from triplane.inference.engines.engine import Engine
from triplane.inference.gateway import Gateway
from triplane.inference.observer import GatewayObserver
from triplane.inference.timeouts import Timeouts


def gateway_of(
    engine: Engine,
    *,
    timeouts: Timeouts | None = None,
    observer: GatewayObserver | None = None,
    **settings: Any,
) -> Gateway:
    """A gateway whose only model, with one route and without retries, is this engine's."""
    card = engine.card
    route = Route(
        **{
            "engine": "openai_http",
            "urls": ["http://the-engine-of-this-test"],
            "context_length": card.context_length,
            "abilities": [
                "json_schema",
                "logprobs",
                *(["tools"] if card.supports_tools else []),
                *(["vision"] if card.supports_images else []),
                *(["continuation"] if card.supports_continuation else []),
            ],
            "retries": 0,
            "timeouts": timeouts or Timeouts(),
            **settings,
        }
    )
    catalogue = Catalogue(routes={"only": route}, models={card.id: Model(routes=["only"])})
    return Gateway(catalogue, lambda _name, _route, _url: engine, observer=observer)


def engine_call(usage: Usage | None = None, **fields: Any) -> EngineCall:
    """A call as the bill has it; by default it computed nothing."""
    known = {"attempt": 1, "route": "only", "replica": "only", "usage": usage or Usage(), "cost": 0}
    return EngineCall(**{**known, **fields})
