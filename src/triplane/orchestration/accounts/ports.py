"""What accounts need of the store."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from triplane.domain.conversation import Principal


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it may be shown again: never the secret, only how it begins."""

    id: str
    name: str
    prefix: str
    created_at: datetime
    caches_answers: bool = False
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class User(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant_id: str
    name: str
    is_admin: bool
    plan: str | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that is signed in, as its user may see it."""

    id: str
    created_at: datetime
    last_seen_at: datetime | None
    user_agent: str
    address: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request came from, as far as it says; the address as the trusted proxy gives it."""

    user_agent: str = ""
    address: str = ""


UNKNOWN_ORIGIN = Origin()


class AccountStore(Protocol):
    """All secrets arrive hashed (SHA-256 of 256 random bits: nothing to guess, so no slow hash)."""

    async def ensure_first_administrator(self) -> User:
        """The first administrator of the first tenant, made if there is none."""
        ...

    async def user(self, who: Principal) -> User:
        """The user that `who` is. Raises NotFound."""
        ...

    async def add_sign_in_link(self, user: User, token_sha256: bytes, expires_at: datetime) -> None: ...

    async def redeem_sign_in_link(self, token_sha256: bytes) -> User | None:
        """The link's user, once: a second call, or one after its expiry, gives None."""
        ...

    async def add_session(
        self, user: User, session_id: str, expires_at: datetime, origin: Origin = UNKNOWN_ORIGIN
    ) -> None: ...

    async def find_session(self, session_id: str) -> User | None:
        """The user of a session that is neither expired nor ended, unless they are disabled."""
        ...

    async def end_session(self, session_id: str) -> None: ...

    async def list_sessions(self, who: Principal) -> list[Session]:
        """Those that are neither expired nor ended, newest first."""
        ...

    async def end_own_session(self, who: Principal, session_id: str) -> None:
        """Raises NotFound."""
        ...

    async def end_other_sessions(self, who: Principal) -> int:
        """All but the one that `who` came with; how many there were."""
        ...

    async def note_seen(self, sessions: Sequence[tuple[str, str]]) -> None:
        """These sessions, each by its tenant's id and its own, were used just now."""
        ...

    async def add_api_key(self, who: Principal, key: ApiKey, secret_sha256: bytes) -> None: ...

    async def find_api_key(self, secret_sha256: bytes) -> Principal | None:
        """The owner of a key that isn't revoked, unless disabled; notes its use (once a minute)."""
        ...

    async def list_api_keys(self, who: Principal) -> list[ApiKey]: ...

    async def revoke_api_key(self, who: Principal, key_id: str) -> None:
        """Raises NotFound."""
        ...
