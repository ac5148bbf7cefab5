import pytest
from litestar import get

from http_app import HttpApp
from triplane.domain import errors
from triplane.wire.errors import present_error, status_of


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.InvalidRequest("x", param="a"), 400, "invalid_request_error"),
        (errors.UnsupportedParameter("x"), 400, "invalid_request_error"),
        (errors.ContextTooLong("x"), 400, "invalid_request_error"),
        (errors.BodyTooLarge("x"), 413, "invalid_request_error"),
        (errors.Unauthenticated("x"), 401, "authentication_error"),
        (errors.Forbidden("x"), 403, "permission_error"),
        (errors.ModelNotFound("x"), 404, "not_found_error"),
        (errors.Conflict("x"), 409, "conflict_error"),
        (errors.IdempotencyKeyReused("x"), 422, "idempotency_error"),
        (errors.RateLimited("x", retry_after_s=1), 429, "rate_limit_error"),
        (errors.Overloaded("x", retry_after_s=1), 503, "overloaded_error"),
        (errors.EngineUnavailable("x"), 503, "api_error"),
        (errors.StoreUnavailable("x"), 503, "api_error"),
        (errors.EngineFailed("x"), 502, "api_error"),
        (errors.FirstTokenTimeout("x"), 504, "api_error"),
        (errors.TriplaneError("x"), 500, "api_error"),
    ],
)
def test_each_error_has_its_status_and_openais_type(
    error: errors.TriplaneError, status: int, kind: str
) -> None:
    shown = present_error(error).error

    assert status_of(error) == status
    assert (shown.message, shown.type, shown.param, shown.code) == ("x", kind, error.param, error.code)


async def raised(error: Exception) -> "tuple[int, dict[str, str], dict[str, str | None]]":
    @get("/v1/fails", opt={"public": True})
    async def fails() -> None:
        raise error

    async with HttpApp(extra_handlers=[fails]).anonymous() as client:
        answer = await client.get("/v1/fails", headers={"x-request-id": "mine"})
    return answer.status_code, dict(answer.headers), answer.json()["error"]


async def test_a_busy_answer_says_when_to_come_back_in_whole_seconds() -> None:
    status, headers, _ = await raised(errors.Overloaded("full", retry_after_s=1.2))

    assert (status, headers["retry-after"]) == (503, "2")


async def test_a_part_that_is_down_says_when_to_come_back_too() -> None:
    assert (await raised(errors.EngineUnavailable("down")))[1]["retry-after"] == "1"


async def test_an_unforeseen_error_shows_its_request_id_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, headers, error = await raised(ValueError("a secret of the user"))

    assert (status, error["code"]) == (500, "internal_error")
    assert "mine" in str(error["message"])
    assert "secret" not in str(error)
    assert headers["x-request-id"] == "mine"
