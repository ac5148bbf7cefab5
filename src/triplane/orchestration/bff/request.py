"""A request whose JSON body is held strictly to its type (`wire/strict_json.py`)."""

from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import ClientException
from litestar.types import Empty

from triplane.domain.conversation import Principal
from triplane.orchestration.bff.scope import authenticated_of, request_id_of
from triplane.wire.errors import UnsupportedMediaType
from triplane.wire.strict_json import body_too_large, decode_strictly, is_json


class StrictRequest(Request[Principal, None, State]):
    """The request that every handler gets."""

    __slots__ = ()

    @property
    def principal(self) -> Principal:
        """Who asks; there on every route that isn't public."""
        return authenticated_of(self.scope).principal

    @property
    def request_id(self) -> str:
        return request_id_of(self.scope)

    async def json(self) -> Any:
        """The body as the type of the handler's `data` parameter; Litestar then takes it as it is."""
        if self._json is Empty:
            body = await self.body()
            if not is_json(self.headers.get("content-type", "")):
                raise UnsupportedMediaType("Send the body as JSON, with `Content-Type: application/json`.")
            field = self.route_handler.parsed_data_field
            self._json = decode_strictly(body, Any if field is None else field.annotation)
        return self._json

    async def body(self) -> bytes:
        """The whole body. Raises BodyTooLarge as soon as it is known to be over the limit."""
        if self._body is Empty:
            self._body = await self._read(int(self.route_handler.resolve_request_max_body_size() or 0))
        return self._body

    async def _read(self, limit: int) -> bytes:
        if (self.content_length or 0) > limit:
            raise body_too_large(limit)
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            event = await self.receive()
            if event["type"] != "http.request":
                raise ClientException("The client hung up before its request was complete.")
            chunks.append(event["body"])
            size += len(event["body"])
            more = event["more_body"]
            if size > limit:
                raise body_too_large(limit)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
