"""Which limits apply to a request: by its plan, for user, key, organisation and model.

The catalogue (`models.toml`) embeds these structs: `PlanLimits` in its plans, `Limits` in its models.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from triplane.domain.completion import Flow
from triplane.domain.limits import DEFAULT_PLAN, MINUTE_S, LimitKind, Limits, Scope


class PlanLimits(Limits, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The limits of a plan. Its own figures are for each user, whatever the number of their keys.

    `per_key` is for each API key, `per_organisation` for all of a tenant together, `per_model` for each user
    on any one model.
    """

    per_key: Limits | None = None
    per_organisation: Limits | None = None
    per_model: Limits | None = None


class Rule(msgspec.Struct, frozen=True):
    """One limit as it applies to one request. `limit` is a figure a minute, or of slots.

    `rate` and `capacity` are those of its bucket, in units and units a second; slots have neither.
    """

    scope: Scope
    kind: LimitKind
    name: str
    limit: int
    rate: float = 0.0
    capacity: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LimitPolicy:
    """`models` limits the use that each organisation makes of a model, all its users together."""

    plans: Mapping[str, PlanLimits] = field(default_factory=dict)
    models: Mapping[str, Limits] = field(default_factory=dict)

    def rules(self, flow: Flow, model: str) -> list[Rule]:
        """Every limit that this request has to keep."""
        return [
            rule
            for scope, name, limits in self._applying(flow, model)
            for rule in _rules(scope, name, limits)
        ]

    def _applying(self, flow: Flow, model: str) -> Iterator[tuple[Scope, str, Limits]]:
        tenant = f"{{{flow.tenant or '-'}}}"
        user = f"{tenant}:user:{flow.user}"
        if plan := self.plans.get(flow.plan) or self.plans.get(DEFAULT_PLAN):
            yield "user", user, plan
            if plan.per_key and flow.api_key:
                yield "key", f"{tenant}:key:{flow.api_key}", plan.per_key
            if plan.per_organisation:
                yield "organisation", f"{tenant}:organisation", plan.per_organisation
            if plan.per_model:
                yield "model", f"{user}:model:{model}", plan.per_model
        if limits := self.models.get(model):
            yield "model", f"{tenant}:model:{model}", limits


def _rules(scope: Scope, name: str, limits: Limits) -> Iterator[Rule]:
    if figure := limits.requests_per_minute:
        rate = figure / MINUTE_S
        yield Rule(
            scope, "requests", f"{name}:requests", figure, rate, max(1.0, figure * limits.burst_s / MINUTE_S)
        )
    if figure := limits.tokens_per_minute:
        rate = figure / MINUTE_S
        yield Rule(scope, "tokens", f"{name}:tokens", figure, rate, figure * limits.burst_s / MINUTE_S)
    if limits.concurrent:
        yield Rule(scope, "concurrent", f"{name}:slots", limits.concurrent)
