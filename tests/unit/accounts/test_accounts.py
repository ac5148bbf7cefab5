from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from fakes import FakeAccountStore
from triplane.domain.conversation import Principal
from triplane.domain.errors import InvalidRequest, NotFound, Unauthenticated
from triplane.orchestration.accounts.api_keys import ApiKeys
from triplane.orchestration.accounts.authentication import authenticate
from triplane.orchestration.accounts.sessions import Sessions, principal_of


@pytest.fixture
def store() -> FakeAccountStore:
    return FakeAccountStore()


@pytest.fixture
def sessions(store: FakeAccountStore) -> Sessions:
    return Sessions(store, "secret")


@pytest.fixture
def api_keys(store: FakeAccountStore) -> ApiKeys:
    return ApiKeys(store)


async def signed_in(sessions: Sessions) -> str:
    session = await sessions.redeem((await sessions.make_sign_in_link()).token)
    assert session is not None
    return session.cookie


async def test_a_sign_in_link_works_once(sessions: Sessions) -> None:
    link = await sessions.make_sign_in_link()

    first, second = await sessions.redeem(link.token), await sessions.redeem(link.token)

    assert first is not None
    assert first.user.is_admin
    assert second is None


async def test_an_expired_sign_in_link_is_refused(store: FakeAccountStore) -> None:
    long_ago = Sessions(store, "secret", now=lambda: datetime.now(UTC) - timedelta(minutes=31))
    link = await long_ago.make_sign_in_link()

    assert await Sessions(store, "secret").redeem(link.token) is None


async def test_the_store_never_sees_a_secret_itself(store: FakeAccountStore, sessions: Sessions) -> None:
    link = await sessions.make_sign_in_link()
    who = principal_of(await store.ensure_first_administrator())

    _, secret = await ApiKeys(store).create(who, "laptop")

    kept = repr((store.links, store.keys))
    assert link.token not in kept
    assert secret not in kept


async def test_a_session_cookie_finds_its_user_until_the_session_ends(sessions: Sessions) -> None:
    cookie = await signed_in(sessions)
    assert await sessions.principal(cookie) is not None

    await sessions.end(cookie)

    assert await sessions.principal(cookie) is None


async def test_a_cookies_signature_is_checked_once(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie, decode, checked = await signed_in(sessions), jwt.decode, 0

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal checked
        checked += 1
        return decode(*arguments, **options)

    monkeypatch.setattr(jwt, "decode", counting)
    assert await sessions.principal(cookie) is not None
    assert checked == 1


async def test_a_cookie_of_another_secret_is_refused(store: FakeAccountStore, sessions: Sessions) -> None:
    cookie = await signed_in(sessions)

    assert await Sessions(store, "another secret").principal(cookie) is None


async def test_an_unsigned_cookie_is_refused(sessions: Sessions) -> None:
    claims = jwt.decode(await signed_in(sessions), options={"verify_signature": False})

    assert await sessions.principal(jwt.encode(claims, None, algorithm="none")) is None


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "é", "\0"])
async def test_nonsense_in_the_cookie_is_refused(sessions: Sessions, cookie: str) -> None:
    assert await sessions.principal(cookie) is None


async def test_an_api_key_has_256_random_bits_and_shows_only_its_start(
    store: FakeAccountStore, api_keys: ApiKeys
) -> None:
    who = principal_of(await store.ensure_first_administrator())

    key, secret = await api_keys.create(who, " laptop ")

    assert secret.startswith("tp-")
    assert len(secret) == 3 + 43
    assert secret.startswith(key.prefix)
    assert len(key.prefix) == 10
    assert key.name == "laptop"


async def test_a_revoked_key_is_refused(
    store: FakeAccountStore, sessions: Sessions, api_keys: ApiKeys
) -> None:
    who = principal_of(await store.ensure_first_administrator())
    key, secret = await api_keys.create(who, "laptop")
    assert (await authenticate(sessions, api_keys, f"Bearer {secret}", None)).principal.api_key_id == key.id

    await api_keys.revoke(who, key.id)

    with pytest.raises(Unauthenticated, match="revoked"):
        await authenticate(sessions, api_keys, f"Bearer {secret}", None)


async def test_another_tenants_key_cannot_be_revoked(store: FakeAccountStore, api_keys: ApiKeys) -> None:
    who = principal_of(await store.ensure_first_administrator())
    key, _ = await api_keys.create(who, "laptop")
    stranger = principal_of(await FakeAccountStore().ensure_first_administrator())

    with pytest.raises(NotFound):
        await api_keys.revoke(stranger, key.id)


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\nb"])
async def test_a_key_needs_a_name_that_can_be_shown(
    store: FakeAccountStore, api_keys: ApiKeys, name: str
) -> None:
    who = principal_of(await store.ensure_first_administrator())

    with pytest.raises(InvalidRequest) as refused:
        await api_keys.create(who, name)

    assert refused.value.param == "name"


@pytest.mark.parametrize(
    "authorization", ["Bearer tp-wrong", "Bearer ", "Basic eDp5", "tp-wrong", "", "Bearer é"]
)
async def test_a_wrong_key_never_falls_back_to_the_cookie(
    sessions: Sessions, api_keys: ApiKeys, authorization: str
) -> None:
    cookie = await signed_in(sessions)

    with pytest.raises(Unauthenticated):
        await authenticate(sessions, api_keys, authorization, cookie)


async def test_no_key_says_how_to_make_one(sessions: Sessions, api_keys: ApiKeys) -> None:
    with pytest.raises(Unauthenticated, match="triplane keys create"):
        await authenticate(sessions, api_keys, None, None)


class CountedStore(FakeAccountStore):
    """Counts how often it is asked for a key."""

    asked = 0

    async def find_api_key(self, secret_sha256: bytes) -> Principal | None:
        self.asked += 1
        return await super().find_api_key(secret_sha256)


async def test_a_key_revoked_by_another_worker_stops_within_a_second() -> None:
    now, store = 100.0, CountedStore()
    here, elsewhere = ApiKeys(store, clock=lambda: now), ApiKeys(store)
    who = principal_of(await store.ensure_first_administrator())
    key, secret = await elsewhere.create(who, "laptop")
    for _ in range(5):
        assert await here.find(secret)
    assert store.asked == 1, "a busy key is asked for once in a moment"

    await elsewhere.revoke(who, key.id)
    now += 1.0

    assert await here.find(secret) is None


async def test_a_key_revoked_here_stops_at_once(store: FakeAccountStore) -> None:
    api_keys = ApiKeys(store)
    who = principal_of(await store.ensure_first_administrator())
    (key, secret), (_, other) = await api_keys.create(who, "laptop"), await api_keys.create(who, "phone")
    assert await api_keys.find(secret)
    assert await api_keys.find(other)

    await api_keys.revoke(who, key.id)

    assert await api_keys.find(secret) is None
    assert await api_keys.find(other)


async def test_a_key_that_is_made_works_at_once_though_it_was_tried_before(store: FakeAccountStore) -> None:
    api_keys = ApiKeys(store)
    who = principal_of(await store.ensure_first_administrator())
    assert await api_keys.find("tp-unknown") is None
    _, secret = await ApiKeys(store).create(who, "laptop")
    assert await api_keys.find(secret)
