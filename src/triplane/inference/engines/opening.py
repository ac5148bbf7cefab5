"""From a route of the catalogue to its engines: which file serves which kind, and where its key is."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from triplane.domain.completion import ModelCard
from triplane.inference.catalogue import EMBEDDED, CatalogueError, Route
from triplane.inference.engines.anthropic_http import AnthropicEngine
from triplane.inference.engines.engine import Engine
from triplane.inference.engines.http_engine import EngineOptions
from triplane.inference.engines.llama_cpp import LlamaCppEngine
from triplane.inference.engines.openai_http import OpenAIEngine
from triplane.inference.engines.sglang import SglangEngine
from triplane.inference.engines.vllm import VllmEngine


class EngineOpener:
    """Makes engines, unconnected. `embedded_url` and `embedded_key` are those of the embedded engine."""

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        *,
        embedded_url: str | None = None,
        embedded_key: str | None = None,
    ) -> None:
        self._environment = environment
        self._embedded_url = embedded_url
        self._embedded_key = embedded_key

    def __call__(self, name: str, route: Route, url: str) -> Engine:
        """The engine of this route at this address. Raises CatalogueError: its key isn't there."""
        card = ModelCard(
            id=route.model or name,
            context_length=route.context_length,
            owned_by=route.owned_by,
            supports_tools=route.can("tools"),
            supports_images=route.can("vision"),
            supports_continuation=route.can("continuation"),
        )
        address, key = self._embedded(name) if url == EMBEDDED else (url, self._key(name, route))
        options = EngineOptions(
            name=_replica_name(name, route, url), api_key=key, connect_s=route.timeouts.connect_s
        )
        match route.engine:
            case "llama_cpp":
                return LlamaCppEngine(address, card, **options)
            case "vllm":
                return VllmEngine(address, card, **options)
            case "sglang":
                return SglangEngine(address, card, **options)
            case "anthropic_http":
                return AnthropicEngine(address, card, **options)
            case "openai_http":
                return OpenAIEngine(address, card, prompt_cache_key=route.prompt_cache_key, **options)

    def _embedded(self, name: str) -> tuple[str, str | None]:
        if self._embedded_url is None:
            raise CatalogueError(
                f"routes.{name}: there is no embedded engine here; `triplane serve` starts it, or "
                "TRIPLANE_ENGINE_URL says where it is"
            )
        return self._embedded_url, self._embedded_key

    def _key(self, name: str, route: Route) -> str | None:
        if route.key_env is not None:
            if not (key := self._environment.get(route.key_env)):
                raise CatalogueError(f"routes.{name}.key_env: the variable {route.key_env} isn't set")
            return key
        if route.key_file is not None:
            try:
                return Path(route.key_file).read_text("utf-8").strip()
            except OSError as error:
                raise CatalogueError(f"routes.{name}.key_file can't be read: {error.strerror}") from error
        return None


def _replica_name(name: str, route: Route, url: str) -> str:
    """The route's name; with the address behind it where the route has several."""
    if len(route.urls) + len(route.prefill_urls) == 1:
        return name
    address = urlsplit(url)
    where = address.netloc + address.path.rstrip("/").removesuffix("/v1")
    return f"{name}@{where or url}"
