"""The model catalogue: what the gateway can serve, by which routes, for whom. `models.toml`, validated whole.

A **model** is what a client asks for: a SKU such as `fast`, or a model's own id. It names **routes** in the
order in which they are tried. A **route** is one or more replicas of an engine that serve the same thing at
the same price. A **plan** says what share of the engines its users get. docs/gateway.md shows every setting.
"""

import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from triplane.domain.completion import Ability
from triplane.domain.limits import DEFAULT_PLAN, Limits
from triplane.domain.money import FREE, Price
from triplane.inference.http1.origin import origin_of
from triplane.inference.limit_policy import LimitPolicy, PlanLimits
from triplane.inference.timeouts import Seconds, Timeouts

EMBEDDED = "embedded"
"""In place of an address: the engine that `triplane serve` starts."""

EngineKind = Literal["llama_cpp", "openai_http", "vllm", "sglang", "anthropic_http"]

_CONTINUES: frozenset[EngineKind] = frozenset({"llama_cpp", "vllm", "sglang", "anthropic_http"})

Positive = Annotated[int, msgspec.Meta(ge=1)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", max_length=120)]


class CatalogueError(Exception):
    """The catalogue can't be used; the message names the place in it and says what would do."""


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Replicas of one engine. `model` is the engine's own name for what it serves (the route's, if None).

    `slots`: how many requests one replica really runs at once; None leaves queueing to the engine. `queue`
    requests may wait for a slot, none for longer than `max_wait_s`. `retries`: further calls after a failure,
    while nothing has reached the client. With `prefill_urls` another pool reads the prompts (vLLM only).
    `abilities` None takes those of the engine's kind; a route whose one ability is `embeddings` doesn't chat.
    `max_inputs` is how many inputs of an embedding go in one call; with `caches_embeddings` those that were
    embedded before aren't sent again. `prompt_cache_key` sends OpenAI's hint of that name, a
    hash, to an `openai_http` engine.
    """

    engine: EngineKind
    urls: Annotated[list[str], msgspec.Meta(min_length=1)]
    context_length: Positive
    model: str | None = None
    key_env: str | None = None
    key_file: str | None = None
    abilities: list[Ability] | None = None
    price: Price = FREE
    slots: Positive | None = None
    queue: Annotated[int, msgspec.Meta(ge=0)] = 64
    max_wait_s: Seconds = 30.0
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    timeouts: Timeouts = Timeouts()
    prefill_urls: list[str] = []
    prompt_cache_key: bool = False
    max_inputs: Positive = 256
    caches_embeddings: bool = True
    owned_by: str = "triplane"

    @property
    def chats(self) -> bool:
        """Whether it completes chats; one that only embeds doesn't."""
        return self.abilities is None or set(self.abilities) != {"embeddings"}

    def can(self, ability: Ability) -> bool:
        if self.abilities is not None:
            return ability in self.abilities
        match ability:
            case "continuation":
                return self.engine in _CONTINUES
            case "vision" | "embeddings":
                return False
            case "logprobs" | "json_schema":
                return self.engine != "anthropic_http"
            case "tools":
                return True


Tier = Name | dict[Name, Annotated[float, msgspec.Meta(ge=0)]]
"""A route, or several with the share of each: `{ stable = 95, next = 5 }` is a canary of 5 %."""


class Cascade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cheap route that is asked first. Its answer is shown if it is sure of its first `probe_tokens`:
    the geometric mean of their probabilities is `min_confidence` at least. Else the routes are asked."""

    route: Name
    min_confidence: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.6
    probe_tokens: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step of the degradation ladder, taken when a request would wait longer than `over_wait_s`.

    It does one or more of: leave out tools that the client merely offers, keep only the newest
    `context_tokens` of the history, serve another `model` of the catalogue.
    """

    over_wait_s: Annotated[float, msgspec.Meta(ge=0)]
    tools: bool = True
    context_tokens: Positive | None = None
    model: Name | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients ask for by the name that it stands under. `limits` are those of each organisation."""

    routes: Annotated[list[Tier], msgspec.Meta(min_length=1)]
    title: str | None = None
    description: str | None = None
    cascade: Cascade | None = None
    degrade: list[Step] = []
    limits: Limits | None = None

    def route_names(self) -> Iterator[str]:
        """Every route that may serve it."""
        if self.cascade:
            yield self.cascade.route
        for tier in self.routes:
            yield from [tier] if isinstance(tier, str) else tier


class Plan(PlanLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`weight` is its share of a busy engine beside the other plans'; `priority` goes to engines that know
    priorities (a lower number first). Its limits are those of `PlanLimits`."""

    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    priority: int | None = None


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every plan, route and model by its name. The plan `default` is there in any case."""

    routes: dict[Name, Route]
    models: dict[Name, Model]
    plans: dict[Name, Plan] = {}

    @property
    def uses_embedded(self) -> bool:
        return any(EMBEDDED in route.urls for route in self.routes.values())

    def plan(self, name: str) -> Plan:
        """The plan of this name, or the default one: an unknown plan is no reason to refuse anybody."""
        return self.plans.get(self.plan_name(name)) or Plan()

    def plan_name(self, name: str) -> str:
        """The name that it is served and counted under."""
        return name if name in self.plans else DEFAULT_PLAN

    @property
    def limit_policy(self) -> LimitPolicy:
        models = {name: model.limits for name, model in self.models.items() if model.limits}
        return LimitPolicy(plans=self.plans, models=models)


def read_catalogue(file: Path) -> Catalogue:
    """Raises CatalogueError, which names the file and the place in it."""
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{file} can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{file} isn't valid TOML: {error}") from error
    try:
        return parse_catalogue(raw)
    except CatalogueError as error:
        raise CatalogueError(f"{file}: {error}") from error


def parse_catalogue(raw: Mapping[str, Any]) -> Catalogue:
    """A catalogue from TOML's tables. Raises CatalogueError."""
    try:
        catalogue = msgspec.convert(raw, Catalogue, dec_hook=_decimal, strict=False)
    except msgspec.ValidationError as error:
        raise CatalogueError(_placed(raw, str(error))) from error
    if problems := list(_problems(catalogue)):
        raise CatalogueError("; ".join(problems))
    return catalogue


def _placed(raw: Mapping[str, Any], message: str) -> str:
    """The message with the table's name in it, which msgspec leaves out."""
    for section, kind in (("plans", Plan), ("routes", Route), ("models", Model)):
        tables = raw.get(section)
        for name, table in tables.items() if isinstance(tables, dict) else ():
            try:
                msgspec.convert(table, kind, dec_hook=_decimal, strict=False)
            except msgspec.ValidationError as error:
                what, _, path = str(error).partition(" - at `$")
                return f"{section}.{name}{path.rstrip('`')}: {what}"
    return message


def _decimal(kind: type, value: Any) -> Any:
    if kind is Decimal and isinstance(value, int | float):
        return Decimal(str(value))
    raise NotImplementedError(f"{kind} from {value!r}")


def _problems(catalogue: Catalogue) -> Iterator[str]:
    """What the types can't see: names that lead nowhere, settings that contradict one another."""
    if not catalogue.models:
        yield "there is no model: add a [models.NAME] table with its routes"
    for name, route in catalogue.routes.items():
        for url in (*route.urls, *route.prefill_urls):
            if url == EMBEDDED and route.engine == "llama_cpp":
                continue
            if not _is_address(url):
                shown = url.rpartition("@")[2]
                yield f"routes.{name}: {shown!r} is no http:// or https:// address without a user name"
        if len(set(route.urls)) < len(route.urls):
            yield f"routes.{name}.urls names an address twice"
        if route.key_env and route.key_file:
            yield f"routes.{name} has key_env and key_file: one of them is enough"
        if route.engine == "anthropic_http" and route.can("embeddings"):
            yield f"routes.{name}.abilities: anthropic_http has no embeddings"
        if route.prefill_urls and route.engine != "vllm":
            yield f"routes.{name}.prefill_urls: only vllm can hand a KV cache on"
    for name, model in catalogue.models.items():
        yield from _problems_of_model(name, model, catalogue)


def _is_address(url: str) -> bool:
    try:
        origin_of(url)
    except ValueError:
        return False
    return True


def _problems_of_model(name: str, model: Model, catalogue: Catalogue) -> Iterator[str]:
    for route in model.route_names():
        if route not in catalogue.routes:
            yield f"models.{name} names the route {route!r}, which there is none of"
    for number, tier in enumerate(model.routes):
        if isinstance(tier, dict) and not sum(tier.values()) > 0:
            yield f"models.{name}.routes[{number}]: at least one share has to be over 0"
    cascade = model.cascade
    if cascade and cascade.route in catalogue.routes and not catalogue.routes[cascade.route].can("logprobs"):
        yield f"models.{name}.cascade: its route gives no log probabilities, so it can't say how sure it is"
    waits = [step.over_wait_s for step in model.degrade]
    if waits != sorted(waits):
        yield f"models.{name}.degrade: sort the steps by over_wait_s"
    for step in model.degrade:
        if step.model is not None and (step.model == name or step.model not in catalogue.models):
            yield f"models.{name}.degrade: {step.model!r} is no other model of this catalogue"
        elif step.model is not None and not _chats(catalogue.models[step.model], catalogue):
            yield f"models.{name}.degrade: {step.model!r} only embeds, so it can't answer instead"


def _chats(model: Model, catalogue: Catalogue) -> bool:
    """Whether a route of it may; one that there is none of is told by itself."""
    routes = [catalogue.routes[each] for each in model.route_names() if each in catalogue.routes]
    return not routes or any(route.chats for route in routes)
