"""The catalogue as administrators see it: models with their routes, and plans."""

import msgspec

from triplane.domain.completion import Ability, ModelOffer, TokenPrice
from triplane.domain.limits import Limits


class RouteOffer(msgspec.Struct, frozen=True, kw_only=True):
    """A route of a model. `share` is its part of its tier, 0 to 1; `tier` counts from 0 in the order in which
    they are tried. `replicas` are addresses."""

    name: str
    tier: int
    share: float
    engine: str
    engine_model: str | None
    context_length: int
    slots: int | None
    price: TokenPrice | None
    abilities: list[Ability]
    replicas: list[str]


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue. `limits` are those of each organisation on it."""

    id: str
    object: str = "catalogue_model"
    offer: ModelOffer
    context_length: int
    limits: Limits | None
    routes: list[RouteOffer]


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """A plan of the catalogue. `weight` is its share of a busy engine beside the other plans'."""

    id: str
    object: str = "plan"
    weight: float
    priority: int | None
    limits: Limits
    per_key: Limits | None
    per_organisation: Limits | None
    per_model: Limits | None


class CatalogueView(msgspec.Struct, frozen=True, kw_only=True):
    models: list[ModelView]
    plans: list[PlanView]
