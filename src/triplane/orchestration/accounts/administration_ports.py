"""What account settings and administration need of the stores, as Protocols.

Every method may raise StoreUnavailable. Users are those of the tenant of `who`; another is NotFound.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Literal, Protocol

import msgspec

from triplane.domain.conversation import Principal
from triplane.orchestration.accounts.ports import User
from triplane.orchestration.accounts.user_settings import SettingsChange, UserSettings

AuditAction = Literal[
    "admin.refused",
    "api_key.created",
    "api_key.revoked",
    "data.deleted",
    "session.created",
    "session.ended",
    "sign_in_link.created",
    "user.changed",
    "user.created",
    "user.deleted",
    "user.demoted",
    "user.disabled",
    "user.enabled",
    "user.plan_changed",
    "user.promoted",
]

COMMAND_LINE = "command line"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who does it, and from where. `user_id` None is the command line."""

    tenant_id: str
    user_id: str | None
    address: str = ""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """`target` is the id of what was changed; `detail` has names and values, never a secret."""

    id: str
    at: datetime
    actor_id: str | None
    actor_name: str
    action: str
    target: str
    detail: str
    address: str


class AuditLog(Protocol):
    """Append-only."""

    async def record(self, actor: Actor, action: AuditAction, target: str, detail: str = "") -> None: ...

    async def page(
        self, who: Principal, after: str | None, limit: int, actor: str | None, action: str | None
    ) -> tuple[list[AuditEntry], bool]:
        """The tenant's, newest first, from behind `after`; and whether there are more."""
        ...


class NobodyAudits:
    """The log of a set-up without administrators."""

    async def record(self, actor: Actor, action: AuditAction, target: str, detail: str = "") -> None:
        pass

    async def page(
        self, who: Principal, after: str | None, limit: int, actor: str | None, action: str | None
    ) -> tuple[list[AuditEntry], bool]:
        return [], False


class ManagedUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user as administrators see them. The last two are of 30 days, None where they weren't asked for."""

    user: User
    disabled_at: datetime | None
    created_at: datetime
    last_seen_at: datetime | None = None
    requests_30d: int | None = None
    cost_30d: int | None = None


class UserChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is unset stays. `plan` None is everybody's."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    is_admin: bool | msgspec.UnsetType = msgspec.UNSET
    plan: str | msgspec.UnsetType | None = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET


class UserAdministration(Protocol):
    """Every change is in the audit log, in the same transaction."""

    async def page(
        self, who: Principal, after: str | None, limit: int, query: str | None
    ) -> tuple[list[ManagedUser], bool]:
        """Newest first, from behind the user `after`, those whose name has `query` in it."""
        ...

    async def get(self, tenant_id: str, user_id: str) -> ManagedUser: ...

    async def add(self, actor: Actor, name: str, is_admin: bool, plan: str | None) -> ManagedUser: ...

    async def change(self, actor: Actor, user_id: str, change: UserChange) -> list[str]:
        """The ids of turns that were asked to stop. Raises Conflict: the last administrator."""
        ...

    async def remove(self, actor: Actor, user_id: str) -> None:
        """The user, their ways in and settings; their data is to be gone. Raises Conflict."""
        ...


class SettingsStore(Protocol):
    async def get(self, who: Principal) -> UserSettings: ...

    async def change(self, who: Principal, change: SettingsChange) -> UserSettings: ...


class DefaultSettings:
    """The settings of users who can't change them."""

    async def get(self, who: Principal) -> UserSettings:
        return UserSettings()

    async def change(self, who: Principal, change: SettingsChange) -> UserSettings:
        return UserSettings()


class HiddenData(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be deleted: conversations that nobody sees any more, turns that were asked to stop."""

    conversation_ids: list[str]
    turn_ids: list[str]


class DeletedConversations(msgspec.Struct, frozen=True, kw_only=True):
    """Conversations that are gone, and how many rows of each kind went with them."""

    ids: list[str]
    rows: dict[str, int]


class UserDataStore(Protocol):
    """A user's data, in steps that may be taken again after a crash."""

    async def hide(self, tenant_id: str, user_id: str) -> HiddenData: ...

    async def has_running(self, tenant_id: str, user_id: str) -> bool: ...

    async def delete_some(self, tenant_id: str, user_id: str, limit: int) -> DeletedConversations:
        """Remove so many hidden conversations with all that is theirs; none are left when none were."""
        ...

    async def delete_rest(self, tenant_id: str, user_id: str) -> dict[str, int]:
        """What belongs to the user and to no conversation."""
        ...


UsageDimension = Literal["day", "model", "key", "user", "plan"]


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over what is alike in the dimensions that were asked for; the others are None. `cost` in
    nano-dollars."""

    day: date | None = None
    model: str | None = None
    key: str | None = None
    user: str | None = None
    plan: str | None = None
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: int


class UsageReports(Protocol):
    async def report(
        self,
        tenant_id: str,
        user_id: str | None,
        first: date,
        last: date,
        by: Sequence[UsageDimension],
    ) -> list[UsageRow]:
        """From the day `first` to `last`, both included, in UTC; of one user, or of the whole tenant.

        Raises InvalidRequest where that is too many rows.
        """
        ...
