"""The models that the gateway can serve, in OpenAI's shape."""

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from triplane.orchestration.bff.deps import Deps
from triplane.orchestration.bff.errors import documented
from triplane.wire.models import ModelList, ModelObject, present_model


@get("/v1/models", tags=["models"], summary="List models", responses=documented(401, 503))
async def list_models(deps: Deps) -> ModelList:
    return ModelList(data=[present_model(card) for card in await deps.gateway.models()])


# A path parameter, because a model's id may have slashes: `org/name`.
@get("/v1/models/{model_id:path}", tags=["models"], summary="One model", responses=documented(401, 404, 503))
async def get_model(deps: Deps, model_id: FromPath[str]) -> ModelObject:
    return present_model(await deps.gateway.model(model_id.lstrip("/")))


MODEL_HANDLERS: list[HTTPRouteHandler] = [list_models, get_model]
