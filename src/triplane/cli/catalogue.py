"""The catalogue as commands see it: with the embedded engine where the running server has it."""

from pathlib import Path

import msgspec

from triplane.adapters.embedded.run_folder import RunFolder
from triplane.cli.errors import CommandFailed
from triplane.inference.catalogue import Catalogue, CatalogueError
from triplane.inference.engines.opening import EngineOpener
from triplane.settings import Settings


def catalogue_here(settings: Settings) -> Catalogue:
    """What `triplane serve` serves with these settings. Raises CommandFailed."""
    from triplane.main.gateways import catalogue_of

    try:
        return catalogue_of(_as_served(settings))
    except CatalogueError as error:
        raise CommandFailed(str(error)) from error


def opener_here(settings: Settings) -> EngineOpener:
    """Makes the engines; the embedded one too, while a server runs it."""
    engine = settings.engine
    if engine.url is not None:
        return EngineOpener(embedded_url=engine.url, embedded_key=engine.api_key)
    state = RunFolder(settings.data_dir).read_state()
    url, key = (state.engine_url, state.engine_api_key) if state else (None, None)
    return EngineOpener(embedded_url=url, embedded_key=key)


def where_from(settings: Settings) -> Path | str:
    return settings.catalogue or "the settings (there is no models.toml)"


def _as_served(settings: Settings) -> Settings:
    """Without an address `triplane serve` starts the embedded engine."""
    if settings.engine.url is not None:
        return settings
    return msgspec.structs.replace(
        settings, engine=msgspec.structs.replace(settings.engine, kind="llama_cpp")
    )
