"""The only table from error to HTTP status, and OpenAI's error shape for all of them."""

import math
from collections.abc import Mapping

import msgspec

from triplane.domain import errors

RETRY_AFTER_S = 1
"""For a 503 that nobody has computed a time for: a part is down, and may be back at any moment."""


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """`param` is the path of the field that is wrong; `code` is stable and for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """Every error of this API, also inside a stream that has begun."""

    error: ErrorDetail


class UnsupportedMediaType(errors.InvalidRequest):
    """The body isn't JSON: a matter of HTTP, so the domain doesn't know it."""

    code = "unsupported_media_type"


# Looked up along the error's class hierarchy, so a new error takes its parent's line until it has its own.
_STATUS: Mapping[type[BaseException], tuple[int, str]] = {
    errors.TriplaneError: (500, "api_error"),
    errors.Refused: (400, "invalid_request_error"),
    UnsupportedMediaType: (415, "invalid_request_error"),
    errors.BodyTooLarge: (413, "invalid_request_error"),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.Forbidden: (403, "permission_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.Conflict: (409, "conflict_error"),
    errors.IdempotencyKeyReused: (422, "idempotency_error"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.Overloaded: (503, "overloaded_error"),
    errors.DependencyFailed: (502, "api_error"),
    errors.EngineUnavailable: (503, "api_error"),
    errors.StoreUnavailable: (503, "api_error"),
    errors.FirstTokenTimeout: (504, "api_error"),
    errors.StreamStalled: (504, "api_error"),
}


def _row(error: errors.TriplaneError) -> tuple[int, str]:
    return next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)


def status_of(error: errors.TriplaneError) -> int:
    return _row(error)[0]


def present_error(error: errors.TriplaneError) -> ErrorBody:
    """The error as a client sees it, in a response or as an event of a stream."""
    return ErrorBody(
        error=ErrorDetail(message=error.message, type=_row(error)[1], param=error.param, code=error.code)
    )


def error_headers(error: errors.TriplaneError) -> dict[str, str]:
    status = status_of(error)
    if isinstance(error, errors.Busy):
        return {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
    if status == 503:
        return {"retry-after": str(RETRY_AFTER_S)}
    if status == 401:
        return {"www-authenticate": 'Bearer realm="triplane"'}
    return {}
