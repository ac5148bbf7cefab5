"""The models that the gateway can serve, in OpenAI's shape."""

from typing import Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from triplane.domain.completion import ModelCard
from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """`context_length`: tokens, prompt and answer together."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    context_length: int


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelObject]


@get("/v1/models", tags=["models"], summary="List models", responses=documented(401, 503))
async def list_models(deps: Deps) -> ModelList:
    return ModelList(data=[_present(card) for card in await deps.gateway.models()])


# A path parameter, because a model's id may have slashes: `org/name`.
@get("/v1/models/{model_id:path}", tags=["models"], summary="One model", responses=documented(401, 404, 503))
async def get_model(deps: Deps, model_id: FromPath[str]) -> ModelObject:
    return _present(await deps.gateway.model(model_id.lstrip("/")))


def _present(card: ModelCard) -> ModelObject:
    return ModelObject(
        id=card.id, created=card.created, owned_by=card.owned_by, context_length=card.context_length
    )


MODEL_HANDLERS: list[HTTPRouteHandler] = [list_models, get_model]
