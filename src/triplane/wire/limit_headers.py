"""How a caller stands, as OpenAI tells it: the `x-ratelimit-*` headers.

Names and times are those of platform.openai.com/docs/guides/rate-limits: a time is written as `20ms`, `1s` or
`6m0s`, and says when all of it is back.
"""

import math
from typing import Literal

from triplane.domain.limits import LimitState, Quota


def limit_headers(limits: LimitState) -> list[tuple[str, str]]:
    return [*_headers("requests", limits.requests), *_headers("tokens", limits.tokens)]


def _headers(kind: Literal["requests", "tokens"], quota: Quota | None) -> list[tuple[str, str]]:
    if quota is None:
        return []
    values = {"limit": str(quota.limit), "remaining": str(quota.remaining), "reset": duration(quota.reset_s)}
    return [(f"x-ratelimit-{name}-{kind}", value) for name, value in values.items()]


def duration(seconds: float) -> str:
    """Rounded up: milliseconds under a second, whole seconds above."""
    if seconds <= 0:
        return "0s"
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms" if seconds <= 0.999 else "1s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
