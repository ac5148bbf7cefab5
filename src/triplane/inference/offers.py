"""What clients and administrators are told of the catalogue."""

from collections.abc import Iterator
from typing import get_args

from triplane.domain.completion import Ability, ModelCard, ModelOffer, TokenPrice
from triplane.domain.limits import DEFAULT_PLAN, Limits
from triplane.domain.money import FREE, Price
from triplane.domain.offers import CatalogueView, ModelView, PlanView, RouteOffer
from triplane.inference.catalogue import Catalogue, Model, Plan, Route
from triplane.inference.limit_policy import PlanLimits

_OF_ALL: tuple[Ability, ...] = ("tools", "vision", "json_schema")
"""A model has these if all its first routes have them: whichever is asked."""
_OF_ANY: tuple[Ability, ...] = ("continuation", "embeddings")
"""A model has these if one of its routes has them: that one is asked."""


def card_of_model(catalogue: Catalogue, name: str) -> ModelCard:
    """What clients are told of a model: what its first routes can do, all of them, at the first's price."""
    model, offer = catalogue.models[name], _offer_of(catalogue, name)
    routes = _first_routes(catalogue, model)
    return ModelCard(
        id=name,
        context_length=min(route.context_length for route in routes),
        owned_by=routes[0].owned_by,
        supports_tools="tools" in offer.abilities,
        supports_images="vision" in offer.abilities,
        supports_continuation="continuation" in offer.abilities,
        supports_embeddings="embeddings" in offer.abilities,
        supports_chat=any(catalogue.routes[each].chats for each in model.route_names()),
        offer=offer,
    )


def _offer_of(catalogue: Catalogue, name: str) -> ModelOffer:
    model = catalogue.models[name]
    first = _first_routes(catalogue, model)
    every = [catalogue.routes[each] for each in model.route_names()]
    abilities: list[Ability] = [each for each in _OF_ALL if all(route.can(each) for route in first)]
    abilities += [each for each in _OF_ANY if any(route.can(each) for route in every)]
    return ModelOffer(
        name=model.title or name,
        description=model.description,
        price=_shown_price(first[0].price),
        abilities=abilities,
    )


def _first_routes(catalogue: Catalogue, model: Model) -> list[Route]:
    """Those of its first tier: one is asked, unless it fails."""
    first = model.routes[0]
    return [catalogue.routes[each] for each in ([first] if isinstance(first, str) else first)]


def catalogue_view(catalogue: Catalogue) -> CatalogueView:
    return CatalogueView(
        models=[_model_view(catalogue, name) for name in catalogue.models],
        plans=[_plan_view(name, plan) for name, plan in _plans(catalogue)],
    )


def _plans(catalogue: Catalogue) -> Iterator[tuple[str, Plan]]:
    """The default one is there in any case."""
    if DEFAULT_PLAN not in catalogue.plans:
        yield DEFAULT_PLAN, Plan()
    yield from catalogue.plans.items()


def _model_view(catalogue: Catalogue, name: str) -> ModelView:
    card, model = card_of_model(catalogue, name), catalogue.models[name]
    tiers = [{tier: 1.0} if isinstance(tier, str) else tier for tier in model.routes]
    if model.cascade:
        tiers.insert(0, {model.cascade.route: 1.0})
    return ModelView(
        id=name,
        offer=_offer_of(catalogue, name),
        context_length=card.context_length,
        limits=model.limits,
        routes=[
            _route_offer(route, catalogue.routes[route], place, weight / sum(tier.values()))
            for place, tier in enumerate(tiers)
            for route, weight in tier.items()
        ],
    )


def _route_offer(name: str, route: Route, tier: int, share: float) -> RouteOffer:
    return RouteOffer(
        name=name,
        tier=tier,
        share=round(share, 4),
        engine=route.engine,
        engine_model=route.model,
        context_length=route.context_length,
        slots=route.slots,
        price=_shown_price(route.price),
        abilities=[each for each in get_args(Ability) if route.can(each)],
        replicas=[*route.urls, *route.prefill_urls],
    )


def _plan_view(name: str, plan: Plan) -> PlanView:
    return PlanView(
        id=name,
        weight=plan.weight,
        priority=plan.priority,
        limits=_own_limits(plan),
        per_key=plan.per_key,
        per_organisation=plan.per_organisation,
        per_model=plan.per_model,
    )


def _own_limits(plan: PlanLimits) -> Limits:
    return Limits(
        requests_per_minute=plan.requests_per_minute,
        tokens_per_minute=plan.tokens_per_minute,
        concurrent=plan.concurrent,
        burst_s=plan.burst_s,
    )


def _shown_price(price: Price) -> TokenPrice | None:
    """None of a route that the catalogue gives no price: nobody has said that it is free."""
    if price == FREE:
        return None
    cached = price.input if price.cached is None else price.cached
    return TokenPrice(input=float(price.input), cached=float(cached), output=float(price.output))
