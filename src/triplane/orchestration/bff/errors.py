"""What Litestar answers with when something is raised, by the table of `wire/errors.py`."""

from collections.abc import Mapping
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.openapi import ResponseSpec
from litestar.types import ExceptionHandlersMap

from triplane.domain import errors
from triplane.domain.anthropic.answers import present_messages_error
from triplane.domain.anthropic.wire import ErrorFields, WireError
from triplane.orchestration.bff.scope import is_anthropic, request_id_of, set_error_code, set_limits
from triplane.wire.errors import ErrorBody, ErrorDetail, error_headers, present_error, status_of

AnyRequest = Request[Any, Any, Any]

log = structlog.get_logger(__name__)


def unexpected_error(error: BaseException, request_id: str) -> ErrorBody:
    """What a client sees of an error that nobody foresaw; the log gets where it happened."""
    log.error("unexpected error", request_id=request_id, exc_info=error)
    return ErrorBody(
        error=ErrorDetail(
            message=f"Something went wrong on our side. Its request id is {request_id}.",
            type="api_error",
            code="internal_error",
        )
    )


def _respond(
    request: AnyRequest,
    body: ErrorBody,
    status: int,
    headers: Mapping[str, str],
    known: errors.TriplaneError | None = None,
) -> Response[Any]:
    """`known` is the error that `body` presents, if it is one of ours."""
    set_error_code(request.scope, body.error.code)
    shown: ErrorBody | WireError = body
    extra = {"cache-control": "no-store"}
    if is_anthropic(request.scope):
        request_id = request_id_of(request.scope)
        shown = _on_anthropics_wire(body, status, known, request_id)
        extra["request-id"] = request_id
    return Response(
        shown,
        status_code=status,
        headers=dict(headers) | extra,
        media_type="application/json",
    )


def _on_anthropics_wire(
    body: ErrorBody, status: int, known: errors.TriplaneError | None, request_id: str
) -> WireError:
    if known is not None:
        return present_messages_error(known, request_id)
    kind = "api_error" if status >= 500 else "invalid_request_error"
    return WireError(error=ErrorFields(type=kind, message=body.error.message), request_id=request_id)


def _known(request: AnyRequest, error: errors.TriplaneError) -> Response[Any]:
    status = status_of(error)
    if isinstance(error, errors.RateLimited):
        set_limits(request.scope, error.limits)
    if status >= 500:
        log.warning("request failed", request_id=request_id_of(request.scope), code=error.code)
    return _respond(request, present_error(error), status, error_headers(error), error)


def _http(request: AnyRequest, error: HTTPException) -> Response[Any]:
    if error.status_code >= 500:
        return _unexpected(request, error)
    if isinstance(error, NotFoundException):
        known: errors.TriplaneError = errors.NotFound("There is nothing at this path; see /openapi.json.")
        return _known(request, known)
    if isinstance(error, MethodNotAllowedException):
        detail = ErrorDetail(
            message="This path has no such method; see the Allow header.",
            type="invalid_request_error",
            code="method_not_allowed",
        )
        return _respond(request, ErrorBody(error=detail), 405, error.headers or {})
    return _respond(request, _invalid(error), error.status_code, error.headers or {})


def _invalid(error: HTTPException) -> ErrorBody:
    """Litestar's refusal of a path or query parameter, or of the form of the request."""
    first = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    param, message = first.get("key"), first.get("message", error.detail)
    if param == "data":
        param, message = None, "The body is empty: send a JSON object."
    elif param:
        message = f"{param}: {message}"
    return present_error(errors.InvalidRequest(message, param=param))


def _unexpected(request: AnyRequest, error: Exception) -> Response[Any]:
    return _respond(request, unexpected_error(error, request_id_of(request.scope)), 500, {})


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    errors.TriplaneError: _known,
    HTTPException: _http,
    Exception: _unexpected,
}


def documented(*statuses: int, shape: type = ErrorBody) -> dict[int, ResponseSpec]:
    """The error responses of a route, for its OpenAPI description."""
    meanings = {
        400: "A field is wrong; `param` names it.",
        401: "No key or session, or a wrong or revoked one.",
        403: "Known, but not allowed.",
        404: "It doesn't exist, or isn't yours.",
        409: "It changed meanwhile.",
        413: "The body is over the limit.",
        415: "The body isn't JSON.",
        422: "The same request id came with another body.",
        429: "Your limit is reached; wait for `Retry-After`.",
        502: "The engine failed.",
        503: "We are busy, or a part is down; wait for `Retry-After`.",
        504: "The engine took too long.",
    }
    return {
        status: ResponseSpec(data_container=shape, description=meanings[status], generate_examples=False)
        for status in statuses
    }
