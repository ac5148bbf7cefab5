"""Who sends a request: the owner of its bearer key, else the user of its session cookie."""

from dataclasses import dataclass
from typing import Literal

from triplane.domain.conversation import Principal
from triplane.domain.errors import Unauthenticated
from triplane.orchestration.accounts.api_keys import ApiKeys
from triplane.orchestration.accounts.sessions import Sessions

_NO_KEY = (
    "No API key was sent. Send the header `Authorization: Bearer tp-…` with a key made by"
    " `triplane keys create NAME`, or sign in with the link that `triplane sign-in-link` prints."
)
_WRONG_KEY = "This API key is wrong or was revoked. Make a new one with `triplane keys create NAME`."
_WRONG_SCHEME = "The Authorization header must read `Bearer tp-…`, with one of your API keys."
_NO_SESSION = "This session has ended or expired. Sign in again: `triplane sign-in-link` prints a new link."


@dataclass(frozen=True)
class Authenticated:
    principal: Principal
    by: Literal["key", "session"]


async def authenticate(
    sessions: Sessions, api_keys: ApiKeys, authorization: str | None, cookie: str | None
) -> Authenticated:
    """Raises Unauthenticated. A key that is present but wrong never falls back to the cookie."""
    if authorization is not None:
        return Authenticated(await _by_key(api_keys, authorization), "key")
    if not cookie:
        raise Unauthenticated(_NO_KEY)
    principal = await sessions.principal(cookie)
    if principal is None:
        raise Unauthenticated(_NO_SESSION)
    return Authenticated(principal, "session")


async def _by_key(api_keys: ApiKeys, authorization: str) -> Principal:
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated(_WRONG_SCHEME)
    principal = await api_keys.find(secret.strip())
    if principal is None:
        raise Unauthenticated(_WRONG_KEY)
    return principal
