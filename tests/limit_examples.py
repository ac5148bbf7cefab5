"""Limits for tests: a policy of one user's figures, and an observer that remembers."""

from collections import Counter

from triplane.domain.completion import Flow
from triplane.domain.limits import DEFAULT_PLAN, LimitKind, Limits, Scope
from triplane.inference.limit_policy import LimitPolicy, PlanLimits

FLOW = Flow(tenant="tenant_1", user="user_1", plan=DEFAULT_PLAN, api_key="key_1")


class Counted:
    """What limits were told to be counted."""

    def __init__(self) -> None:
        self.refused: Counter[tuple[Scope, LimitKind]] = Counter()
        self.unshared = 0

    def request_limited(self, scope: Scope, kind: LimitKind) -> None:
        self.refused[scope, kind] += 1

    def limits_unshared(self, claims: int) -> None:
        self.unshared += claims


def per_user(
    requests: int | None = None,
    tokens: int | None = None,
    concurrent: int | None = None,
    burst_s: float = 60.0,
    models: dict[str, Limits] | None = None,
) -> LimitPolicy:
    plan = PlanLimits(
        requests_per_minute=requests, tokens_per_minute=tokens, concurrent=concurrent, burst_s=burst_s
    )
    return LimitPolicy(plans={DEFAULT_PLAN: plan}, models=models or {})
