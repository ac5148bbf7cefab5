"""What we keep with each request, in ASGI's `scope["state"]`: its id, its sender, what failed, limits."""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from triplane.domain.ids import new_id
from triplane.domain.limits import LimitState
from triplane.orchestration.accounts.authentication import Authenticated
from triplane.orchestration.accounts.open_streams import OpenStreams

_REQUEST_ID = "request_id"
_AUTHENTICATED = "authenticated"
_STREAMS = "streams"
_ERROR_CODE = "error_code"
_LIMITS = "limits"

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"

AnyScope = MutableMapping[str, Any]


def is_anthropic(scope: Any) -> bool:
    """Whether the request is on Anthropic's wire, and so are its errors."""
    return scope.get("path") in (MESSAGES, COUNT_TOKENS)


def set_request_id(scope: AnyScope, request_id: str) -> None:
    # Uvicorn hands every request the same lifespan state's copy; a fresh dict keeps requests apart anywhere.
    scope["state"] = {**scope.get("state", {}), _REQUEST_ID: request_id}


def request_id_of(scope: Any) -> str:
    """The request's id; a new one where the outermost layer has set none."""
    found = scope.get("state", {}).get(_REQUEST_ID)
    return found if isinstance(found, str) else new_id("req")


def set_authenticated(scope: Any, authenticated: Authenticated, streams: OpenStreams) -> None:
    state = scope.setdefault("state", {})
    state[_AUTHENTICATED], state[_STREAMS] = authenticated, streams


@contextmanager
def while_allowed(scope: Any) -> "Iterator[asyncio.Future[None] | None]":
    """For a response that takes long: the future is done when its sender has no access any more. None where
    anyone may read."""
    state = scope.get("state", {})
    authenticated, streams = state.get(_AUTHENTICATED), state.get(_STREAMS)
    if isinstance(authenticated, Authenticated) and isinstance(streams, OpenStreams):
        with streams.opened(authenticated.principal) as ended:
            yield ended
    else:
        yield None


def authenticated_of(scope: Any) -> Authenticated:
    found = scope["state"][_AUTHENTICATED]
    assert isinstance(found, Authenticated), "only authentication writes here"
    return found


def set_error_code(scope: Any, code: str | None) -> None:
    """The code of the error that the request is answered with, for whoever counts errors."""
    scope.setdefault("state", {})[_ERROR_CODE] = code


def set_limits(scope: Any, limits: LimitState | None) -> None:
    """How the sender stands, for the headers of the response."""
    if limits:
        scope.setdefault("state", {})[_LIMITS] = limits


def limits_of(scope: Any) -> LimitState | None:
    found = scope.get("state", {}).get(_LIMITS)
    return found if isinstance(found, LimitState) else None
