"""API keys: made, shown once, stored as a hash, revoked."""

from dataclasses import dataclass
from datetime import UTC, datetime

from triplane.domain.conversation import Principal
from triplane.domain.errors import InvalidRequest
from triplane.domain.ids import new_id
from triplane.domain.secrets import new_secret, sha256_of
from triplane.orchestration.accounts.ports import AccountStore, ApiKey

KEY_START = "tp-"
_PREFIX_LENGTH = 10
_MAX_NAME = 100


@dataclass(frozen=True)
class ApiKeys:
    store: AccountStore

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
        return await self.store.find_api_key(sha256_of(secret))

    async def list(self, who: Principal) -> list[ApiKey]:
        return await self.store.list_api_keys(who)

    async def revoke(self, who: Principal, key_id: str) -> None:
        """Raises NotFound."""
        await self.store.revoke_api_key(who, key_id)
