"""Embeddings asked for over HTTP: reserve, ask, answer, settle. `metering` writes the bill."""

from contextlib import aclosing

from triplane.domain.completion import Flow
from triplane.domain.embeddings import estimated_input_tokens
from triplane.inference.gateway import Gateway
from triplane.inference.limits import Limiter
from triplane.inference.service.completions import answer_headers
from triplane.inference.service.metering import open_bill
from triplane.inference.service.reply import Reply
from triplane.inference.service.usage_log import UsageLog
from triplane.wire.embeddings import EmbeddingsRequest, embedding_request, encode_embeddings
from triplane.wire.strict_json import decode_strictly

EMBEDDINGS = "/v1/embeddings"


class Embeddings:
    def __init__(self, gateway: Gateway, limiter: Limiter, usage_log: UsageLog) -> None:
        self._gateway = gateway
        self._limiter = limiter
        self._usage_log = usage_log

    async def answer(self, flow: Flow, request_id: str, body: bytes, reply: Reply) -> None:
        """Raises TriplaneError, which can be told with a status. What was computed by then is billed."""
        asked = decode_strictly(body, EmbeddingsRequest)
        request = embedding_request(asked, request_id=request_id, flow=flow)
        self._usage_log.require_room()
        bill = open_bill(request)
        tokens = estimated_input_tokens(request.inputs)
        with await self._limiter.reserve(flow, request.model, tokens) as reserved:
            embedding = self._gateway.embed(request)
            is_whole = False
            try:
                async with aclosing(embedding):
                    vectors = await embedding.vectors()
                is_whole = True
            finally:
                if is_whole or bill.usage.total_tokens:  # else nothing was computed, and leaving refunds
                    reserved.settle(bill.usage)
            whole = await encode_embeddings(asked, vectors, embedding.usage)
        headers = [("content-type", "application/json"), *answer_headers(request_id, reserved)]
        reply.send(200, headers, whole)
