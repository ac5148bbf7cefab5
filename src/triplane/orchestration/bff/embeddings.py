"""`POST /v1/embeddings`: texts in, a vector for each. Parse, call, present."""

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from triplane.orchestration.accounts.plans import PlanOf, everybody_default
from triplane.orchestration.bff.connection import unless_gone
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.flow import flow_of
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.bff.scope import set_limits
from triplane.orchestration.embeddings import EmbeddingDeps, embed
from triplane.wire.embeddings import (
    EmbeddingsAnswer,
    EmbeddingsRequest,
    embedding_request,
    encode_embeddings,
)


def embedding_handlers(deps: EmbeddingDeps, plan_of: PlanOf = everybody_default) -> list[HTTPRouteHandler]:
    @post(
        "/v1/embeddings",
        operation_id="createEmbedding",
        summary="A vector for each text",
        tags=["embeddings"],
        status_code=200,
        responses=documented(400, 401, 403, 404, 413, 415, 429, 502, 503, 504),
    )
    async def create_embedding(
        request: StrictRequest, data: JSONBody[EmbeddingsRequest]
    ) -> Response[EmbeddingsAnswer]:
        asked = embedding_request(
            data, request_id=request.request_id, flow=flow_of(request.principal, plan_of)
        )
        embedded = await unless_gone(request, embed(request.principal, asked, deps))
        set_limits(request.scope, embedded.limits)
        body = await encode_embeddings(data, embedded.vectors, embedded.usage)
        return Response(body, media_type="application/json")  # type: ignore[arg-type]

    return [create_embedding]
