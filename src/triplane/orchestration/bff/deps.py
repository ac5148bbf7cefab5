"""What the routes need, as one frozen value that `main` fills and handlers receive."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from triplane.domain.limits import DEFAULT_PLAN
from triplane.orchestration.accounts.administration_ports import (
    AuditLog,
    DefaultSettings,
    NobodyAudits,
    SettingsStore,
)
from triplane.orchestration.accounts.api_keys import ApiKeys
from triplane.orchestration.accounts.last_seen import LastSeen
from triplane.orchestration.accounts.open_streams import OpenStreams
from triplane.orchestration.accounts.sessions import Sessions
from triplane.orchestration.announcing import Announcer, NobodyListens
from triplane.orchestration.conversation_ports import ConversationStore
from triplane.orchestration.ports import Gateway

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

Check = Callable[[], Awaitable[None]]
"""Returns if a part can serve; raises if it can't. Its time is bounded by who calls it."""


@dataclass(frozen=True, kw_only=True)
class AppDeps:
    """`web` answers every path that isn't the API's. `checks` are named for people: "PostgreSQL".

    `metrics` gives Prometheus's text format. `default_plan` is that of users whose row names none.
    """

    conversations: ConversationStore
    gateway: Gateway
    sessions: Sessions
    api_keys: ApiKeys
    checks: Mapping[str, Check]
    metrics: Callable[[], bytes]
    web: ASGIApp
    max_body_bytes: int
    public_url: str | None = None
    announcer: Announcer = field(default_factory=NobodyListens)
    default_plan: str = DEFAULT_PLAN
    settings: SettingsStore = field(default_factory=DefaultSettings)
    audit: AuditLog = field(default_factory=NobodyAudits)
    streams: OpenStreams = field(default_factory=OpenStreams)
    last_seen: LastSeen = field(default_factory=LastSeen)


# Litestar resolves two or more dependencies of a handler in a task group, which costs more than the whole
# rest of a request: so there is one, and a handler takes no second.
Deps = SkipValidation[NamedDependency[AppDeps]]
