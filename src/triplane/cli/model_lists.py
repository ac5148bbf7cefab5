"""`triplane models list`: the catalogue, and the model files beside it."""

from collections.abc import Iterator, Sequence
from typing import get_args

from triplane.cli.catalogue import catalogue_here, where_from
from triplane.domain.completion import Ability
from triplane.domain.money import FREE, Price
from triplane.inference.catalogue import Catalogue, Model, Route
from triplane.inference.model_files import WHEEL_MODELS
from triplane.inference.model_files import list_models as files_here
from triplane.settings import Settings


def list_models(settings: Settings) -> list[str]:
    """A line for each model, route and file, under a heading each. Raises CommandFailed."""
    catalogue = catalogue_here(settings)
    return [
        f"Models, from {where_from(settings)}:",
        *_aligned([_model_cells(name, catalogue.models[name]) for name in catalogue.models]),
        "",
        "Routes:",
        *_aligned(list(_route_cells(catalogue))),
        "",
        f"Files of the embedded engine, in {settings.models_dir}:",
        *_aligned(list(_file_cells(settings))),
    ]


def _model_cells(name: str, model: Model) -> tuple[str, ...]:
    tiers = [
        tier if isinstance(tier, str) else " / ".join(f"{part:g} {route}" for route, part in tier.items())
        for tier in model.routes
    ]
    first = f"{model.cascade.route} if it is sure, " if model.cascade else ""
    return name, first + ", then ".join(tiers), model.title or ""


def _route_cells(catalogue: Catalogue) -> Iterator[tuple[str, ...]]:
    for name, route in catalogue.routes.items():
        yield (
            name,
            route.engine,
            f"{route.context_length} tokens",
            _price(route.price),
            _abilities(route),
            ", ".join((*route.urls, *(f"{url} (reads prompts)" for url in route.prefill_urls))),
        )


def _price(price: Price) -> str:
    """Dollars for a million tokens."""
    if price == FREE:
        return "free"
    cached = "" if price.cached is None else f", ${price.cached} cached"
    return f"${price.input} in{cached}, ${price.output} out"


def _abilities(route: Route) -> str:
    return " ".join(ability for ability in get_args(Ability) if route.can(ability)) or "text only"


def _file_cells(settings: Settings) -> Iterator[tuple[str, ...]]:
    """Each model that can be pulled by name, and each file that is here."""
    own = settings.engine.model_file
    if own is not None:
        yield settings.engine.model, f"{own}" if own.is_file() else f"{own} (TRIPLANE_MODEL_FILE) isn't there"
    here = {file.path.name: file for file in files_here(settings.models_dir)}
    for name, model in WHEEL_MODELS.items():
        found = here.pop(model.file_name, None)
        yield name, str(found.path) if found else f"not here: triplane models pull {name}"
    for file in here.values():
        yield file.path.stem, str(file.path)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
