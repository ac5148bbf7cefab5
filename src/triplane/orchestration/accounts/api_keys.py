"""API keys: made, shown once, stored as a hash, remembered for a moment, revoked."""

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from triplane.domain.conversation import Principal
from triplane.domain.errors import InvalidRequest
from triplane.domain.ids import new_id
from triplane.domain.secrets import new_secret, sha256_of
from triplane.orchestration.accounts.ports import AccountStore, ApiKey

KEY_START = "tp-"
_PREFIX_LENGTH = 10
_MAX_NAME = 100


REMEMBERED_S = 0.8
"""How long a worker trusts a key without asking the store: a revoked one stops everywhere within a second,
whatever else is away, and a busy one costs one query in that time."""

_MOST_REMEMBERED = 10_000


class ApiKeys:
    def __init__(self, store: AccountStore, clock: Callable[[], float] = monotonic) -> None:
        self.store = store
        self._clock = clock
        self._known: dict[bytes, tuple[float, Principal]] = {}

    async def create(self, who: Principal, name: str, *, caches_answers: bool = False) -> tuple[ApiKey, str]:
        """A new key and its secret, which can't be had again. Raises InvalidRequest (`name`)."""
        name = name.strip()
        if not name or len(name) > _MAX_NAME or not name.isprintable():
            raise InvalidRequest(f"Give the key a name of 1 to {_MAX_NAME} characters.", param="name")
        secret = KEY_START + new_secret()
        key = ApiKey(
            id=new_id("key"),
            name=name,
            prefix=secret[:_PREFIX_LENGTH],
            created_at=datetime.now(UTC),
            caches_answers=caches_answers,
        )
        await self.store.add_api_key(who, key, sha256_of(secret))
        return key, secret

    async def find(self, secret: str) -> Principal | None:
        """The owner of a key that isn't revoked."""
        if not secret.startswith(KEY_START):
            return None
        secret_sha256, now = sha256_of(secret), self._clock()
        known = self._known.get(secret_sha256)
        if known and known[0] > now:
            return known[1]
        principal = await self.store.find_api_key(secret_sha256)
        self._remember(secret_sha256, principal, now + REMEMBERED_S)
        return principal

    async def list(self, who: Principal) -> list[ApiKey]:
        return await self.store.list_api_keys(who)

    async def revoke(self, who: Principal, key_id: str) -> None:
        """It ends at once in this process, and elsewhere within `REMEMBERED_S`. Raises NotFound."""
        await self.store.revoke_api_key(who, key_id)
        self._known = {key: known for key, known in self._known.items() if known[1].api_key_id != key_id}

    def _remember(self, secret_sha256: bytes, principal: Principal | None, until: float) -> None:
        """Only what was found; `until` counts from before the store was asked."""
        self._known.pop(secret_sha256, None)
        if principal:
            self._known[secret_sha256] = (until, principal)
        if len(self._known) > _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
