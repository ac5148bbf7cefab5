"""Times in the headers of limits are OpenAI's, and never too short."""

import pytest

from triplane.domain.limits import LimitState, Quota
from triplane.wire.limit_headers import duration, limit_headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0s"),
        (0.0, "0s"),
        (0.0001, "1ms"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (1.0, "1s"),
        (1.2, "2s"),
        (59.5, "1m0s"),
        (360.0, "6m0s"),
        (3600.0, "1h0m0s"),
        (5025.0, "1h23m45s"),
    ],
)
def test_a_time_is_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_not_limited_has_no_headers() -> None:
    assert limit_headers(LimitState()) == []
    headers = dict(limit_headers(LimitState(tokens=Quota(100, 7, 1.5))))
    assert headers == {
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "7",
        "x-ratelimit-reset-tokens": "2s",
    }
