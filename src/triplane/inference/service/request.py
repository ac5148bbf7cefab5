"""A request as it came over HTTP, and what keeps a message within bounds."""

import msgspec

from triplane.domain.errors import InvalidRequest, TriplaneError


class MalformedRequest(InvalidRequest):
    """What came isn't HTTP that we accept."""

    code = "malformed_request"


class HeadTooLarge(InvalidRequest):
    code = "request_head_too_large"


class RequestTimeout(InvalidRequest):
    """The request didn't arrive in time."""

    code = "request_timeout"


class MethodNotAllowed(InvalidRequest):
    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__("This path has no such method; see the Allow header.")
        self.allowed = allowed


class Head(msgspec.Struct, kw_only=True):
    """The head of a request. `path` is without the query; of the headers only those in `READ_HEADERS`."""

    method: str
    path: str
    headers: dict[bytes, bytes]

    def header(self, name: bytes) -> str:
        """A header's text, empty if it wasn't sent."""
        return self.headers.get(name, b"").decode("latin-1")


READ_HEADERS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"traceparent",
        b"transfer-encoding",
        b"x-api-key",
        b"x-request-id",
    }
)
"""A request with one of these twice is refused: two parties could each believe another."""

_STATUS: dict[type[TriplaneError], int] = {
    MalformedRequest: 400,
    HeadTooLarge: 431,
    RequestTimeout: 408,
    MethodNotAllowed: 405,
}


def status_of_http(error: TriplaneError) -> int | None:
    """The status of an error that only HTTP knows."""
    return _STATUS.get(type(error))
