"""The API's description at /openapi.json, and a page to read it at /docs, without any other host."""

import asyncio
from pathlib import Path
from typing import Any

from litestar import Litestar, MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from swagger_ui_bundle import swagger_ui_path

from triplane.domain.errors import NotFound
from triplane.orchestration.bff.authentication import PUBLIC
from triplane.orchestration.bff.request import StrictRequest

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Triplane API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
# The policy of the site allows no inline script, so the page's start is a file too.
_START = """window.addEventListener("load", () => {
  SwaggerUIBundle({ url: "/docs/openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null });
});
"""
_FILES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_FOR_A_DAY = {"cache-control": "public, max-age=86400"}


class ApiDescription:
    """The OpenAPI document, built from the application's own handlers when first asked for."""

    def __init__(self) -> None:
        self._document: dict[str, Any] | None = None

    async def of(self, app: Litestar) -> dict[str, Any]:
        if self._document is None:
            self._document = await asyncio.to_thread(_describe, app)
        return self._document


def _describe(app: Litestar) -> dict[str, Any]:
    return app.openapi_schema.to_schema()


def api_docs_handlers() -> list[HTTPRouteHandler]:
    description = ApiDescription()

    @get("/openapi.json", opt=PUBLIC, include_in_schema=False)
    async def openapi_json(request: StrictRequest) -> Response[dict[str, Any]]:
        return Response(await description.of(request.app))

    @get("/docs/openapi.json", opt=PUBLIC, include_in_schema=False)
    async def openapi_json_for_page(request: StrictRequest) -> Response[dict[str, Any]]:
        # The page's renderer knows OpenAPI up to 3.0 and shows 3.1 well enough, once it agrees to try.
        return Response({**await description.of(request.app), "openapi": "3.0.3"})

    return [openapi_json, openapi_json_for_page, docs_page, docs_start, docs_file]


@get("/docs", opt=PUBLIC, include_in_schema=False)
async def docs_page() -> Response[str]:
    return Response(_PAGE, media_type=MediaType.HTML)


@get("/docs/start.js", opt=PUBLIC, include_in_schema=False)
async def docs_start() -> Response[str]:
    return Response(_START, media_type="text/javascript")


@get("/docs/{name:str}", opt=PUBLIC, include_in_schema=False)
async def docs_file(name: FromPath[str]) -> Response[bytes]:
    media_type = _FILES.get(name)
    if media_type is None:
        raise NotFound("There is nothing at this path.")
    content = await asyncio.to_thread((Path(str(swagger_ui_path)) / name).read_bytes)
    return Response(content, media_type=media_type, headers=_FOR_A_DAY)
