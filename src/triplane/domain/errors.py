"""Every error that a user or a caller may see, as one small tree.

    TriplaneError
    ├── Refused               change something, then try again
    │   ├── InvalidRequest        a field is wrong (`param` names it)
    │   ├── BodyTooLarge          the request's body is over the limit
    │   ├── ContextTooLong        the prompt doesn't fit the model's context
    │   ├── Unauthenticated       no key or session, or a wrong or revoked one
    │   ├── Forbidden             known, but not allowed
    │   ├── NotFound              doesn't exist, or isn't yours: the two look the same
    │   ├── ModelNotFound         no such model
    │   ├── OverLimit             needs more at once than a limit ever allows
    │   ├── Conflict              the thing changed meanwhile
    │   └── IdempotencyKeyReused  the same request id came with another body
    ├── Busy                  wait `retry_after_s`, then send the same again
    │   ├── RateLimited           your limit
    │   └── Overloaded            ours
    └── DependencyFailed      something behind us failed; a retry may help
        ├── EngineUnavailable     the engine is down or refuses
        ├── EngineFailed          the engine answered with an error or with nonsense
        ├── FirstTokenTimeout     no first token in time
        ├── StreamStalled         the tokens stopped coming
        └── StoreUnavailable      PostgreSQL or Redis can't be reached

A message says what happened and what to do. It never carries a prompt, an answer or a secret. The HTTP
status of each lives in one place, `wire/errors.py`.
"""

from typing import ClassVar

from triplane.domain.limits import LimitState


class TriplaneError(Exception):
    """The root. `code` is stable and for programs; the message is for people."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class Refused(TriplaneError):
    """The request can't be served as it is."""


class InvalidRequest(Refused):
    """A field is wrong; `param` is its path, such as `messages[0].content`."""

    code = "invalid_request"


class UnsupportedParameter(InvalidRequest):
    """A parameter that we know of and don't support, or don't know at all: never silently dropped."""

    code = "unsupported_parameter"


class BodyTooLarge(Refused):
    code = "body_too_large"


class ContextTooLong(Refused):
    code = "context_length_exceeded"


class Unauthenticated(Refused):
    code = "invalid_api_key"


class Forbidden(Refused):
    code = "forbidden"


class NotFound(Refused):
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class OverLimit(Refused):
    """One request needs more than a full bucket holds: waiting doesn't help, so it isn't `Busy`."""

    code = "request_over_limit"


class Conflict(Refused):
    code = "conflict"


class IdempotencyKeyReused(Refused):
    code = "idempotency_key_reused"


class Busy(TriplaneError):
    """Nothing was done; the same request may be sent again after `retry_after_s` seconds."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class RateLimited(Busy):
    """`limits` is how the caller stands, if that is known."""

    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float,
        param: str | None = None,
        limits: LimitState | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, param=param)
        self.limits = limits


class Overloaded(Busy):
    code = "overloaded"


class DependencyFailed(TriplaneError):
    retryable = True


class EngineUnavailable(DependencyFailed):
    code = "engine_unavailable"


class EngineFailed(DependencyFailed):
    code = "engine_failed"


class FirstTokenTimeout(DependencyFailed):
    code = "first_token_timeout"


class StreamStalled(DependencyFailed):
    code = "stream_stalled"


class StoreUnavailable(DependencyFailed):
    code = "store_unavailable"


def error_from_code(code: str, message: str) -> TriplaneError:
    """The error that a stored or streamed `code` stands for, such as that of a turn which has failed."""
    kind = _by_code(TriplaneError).get(code, TriplaneError)
    if issubclass(kind, Busy):
        return kind(message, retry_after_s=1.0)
    return kind(message)


def _by_code(kind: type[TriplaneError]) -> dict[str, type[TriplaneError]]:
    found = {kind.code: kind} if "code" in vars(kind) else {}
    for child in kind.__subclasses__():
        found |= _by_code(child)
    return found
