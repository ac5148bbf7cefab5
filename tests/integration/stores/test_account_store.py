"""Users and their ways in, in a real PostgreSQL."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from servers import add_user
from triplane.adapters.postgres.accounts import PostgresAccounts
from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import Principal
from triplane.domain.errors import NotFound
from triplane.domain.ids import new_id
from triplane.orchestration.accounts.ports import ApiKey, User

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)
EARLIER = NOW - timedelta(hours=1)


@pytest.fixture
def accounts(database: Database) -> PostgresAccounts:
    return PostgresAccounts(database)


@pytest.fixture
async def user(accounts: PostgresAccounts) -> User:
    return await accounts.ensure_first_administrator()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _key(name: str = "laptop") -> ApiKey:
    return ApiKey(id=new_id("key"), name=name, prefix="tp-abcd", created_at=NOW)


async def test_starts_at_once_make_one_first_administrator(
    accounts: PostgresAccounts, database: Database
) -> None:
    found = await asyncio.gather(*(accounts.ensure_first_administrator() for _ in range(8)))

    assert len({user.id for user in found}) == 1
    assert found[0].is_admin
    assert await database.fetchval("SELECT count(*) FROM tenants") == 1


async def test_a_sign_in_link_works_once(accounts: PostgresAccounts, user: User) -> None:
    await accounts.add_sign_in_link(user, _hash("link"), LATER)

    redeemed = await asyncio.gather(*(accounts.redeem_sign_in_link(_hash("link")) for _ in range(8)))

    assert sorted(each is None for each in redeemed) == [False] + [True] * 7
    assert user in redeemed


async def test_a_sign_in_link_that_is_over_or_unknown_gives_nobody(
    accounts: PostgresAccounts, user: User
) -> None:
    await accounts.add_sign_in_link(user, _hash("old"), EARLIER)

    assert await accounts.redeem_sign_in_link(_hash("old")) is None
    assert await accounts.redeem_sign_in_link(_hash("unknown")) is None


async def test_a_session_holds_until_it_ends_or_expires(accounts: PostgresAccounts, user: User) -> None:
    kept, ended, expired = new_id("session"), new_id("session"), new_id("session")
    await accounts.add_session(user, kept, LATER)
    await accounts.add_session(user, ended, LATER)
    await accounts.add_session(user, expired, EARLIER)

    await accounts.end_session(ended)
    await accounts.end_session(ended)

    assert await accounts.find_session(kept) == user
    assert await accounts.find_session(ended) is None
    assert await accounts.find_session(expired) is None
    assert await accounts.find_session(new_id("session")) is None


async def test_a_key_names_its_owner_until_it_is_revoked(accounts: PostgresAccounts, who: Principal) -> None:
    key = _key()
    await accounts.add_api_key(who, key, _hash("secret"))

    owner = await accounts.find_api_key(_hash("secret"))
    assert owner == Principal(tenant_id=who.tenant_id, user_id=who.user_id, api_key_id=key.id)
    assert await accounts.find_api_key(_hash("other")) is None

    await accounts.revoke_api_key(who, key.id)

    assert await accounts.find_api_key(_hash("secret")) is None
    (listed,) = await accounts.list_api_keys(who)
    assert listed.revoked_at is not None


async def test_a_keys_use_is_noted_at_most_once_a_minute(
    accounts: PostgresAccounts, database: Database, who: Principal
) -> None:
    await accounts.add_api_key(who, _key(), _hash("secret"))

    await accounts.find_api_key(_hash("secret"))
    first = (await accounts.list_api_keys(who))[0].last_used_at
    await accounts.find_api_key(_hash("secret"))
    second = (await accounts.list_api_keys(who))[0].last_used_at
    await database.execute("UPDATE api_keys SET last_used_at = now() - interval '2 minutes'")
    await accounts.find_api_key(_hash("secret"))
    third = (await accounts.list_api_keys(who))[0].last_used_at

    assert first is not None
    assert third is not None
    assert second == first
    assert third > first


async def test_keys_are_their_owners_alone(
    accounts: PostgresAccounts, database: Database, who: Principal
) -> None:
    key = _key()
    await accounts.add_api_key(who, key, _hash("secret"))

    for other in (await add_user(database, who.tenant_id), await add_user(database)):
        assert await accounts.list_api_keys(other) == []
        with pytest.raises(NotFound):
            await accounts.revoke_api_key(other, key.id)
    assert await accounts.list_api_keys(who) == [key]
