"""Browser sessions: a one-time link begins one, a signed cookie carries it, the store can end it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt
import msgspec

from triplane.domain.conversation import Principal
from triplane.domain.ids import is_id, new_id
from triplane.domain.secrets import new_secret, sha256_of
from triplane.orchestration.accounts.ports import UNKNOWN_ORIGIN, AccountStore, Origin, User

LINK_LIFETIME = timedelta(minutes=30)
SESSION_LIFETIME = timedelta(days=30)
_ALGORITHM = "HS256"


class SignInLink(msgspec.Struct, frozen=True, kw_only=True):
    """The token of a link `…/sign-in?token=…`; it works once, until it expires."""

    token: str
    expires_at: datetime


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    user: User
    cookie: str
    expires_at: datetime


def principal_of(user: User, session_id: str | None = None) -> Principal:
    return Principal(
        tenant_id=user.tenant_id,
        user_id=user.id,
        is_admin=user.is_admin,
        plan=user.plan,
        session_id=session_id,
    )


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Sessions:
    """`secret` signs the cookies: changing it signs everybody out."""

    store: AccountStore
    secret: str
    now: Callable[[], datetime] = _now

    async def make_sign_in_link(self) -> SignInLink:
        """A link for the first administrator, who is made if there is none."""
        return await self.link_for(await self.store.ensure_first_administrator())

    async def link_for(self, user: User) -> SignInLink:
        link = SignInLink(token=new_secret(), expires_at=self.now() + LINK_LIFETIME)
        await self.store.add_sign_in_link(user, sha256_of(link.token), link.expires_at)
        return link

    async def redeem(self, token: str, origin: Origin = UNKNOWN_ORIGIN) -> NewSession | None:
        """A session for the link's user; None for a link that is unknown, used or expired."""
        user = await self.store.redeem_sign_in_link(sha256_of(token))
        if user is None:
            return None
        session_id, expires_at = new_id("session"), self.now() + SESSION_LIFETIME
        await self.store.add_session(user, session_id, expires_at, origin)
        claims = {"jti": session_id, "exp": int(expires_at.timestamp())}
        return NewSession(
            id=session_id,
            user=user,
            cookie=jwt.encode(claims, self._key(), _ALGORITHM),
            expires_at=expires_at,
        )

    async def principal(self, cookie: str) -> Principal | None:
        """Whose cookie that is, if we signed it and its session is neither expired nor ended."""
        session_id = self._session_id(cookie)
        user = await self.store.find_session(session_id) if session_id else None
        return principal_of(user, session_id) if user else None

    async def end(self, cookie: str) -> None:
        session_id = self._session_id(cookie)
        if session_id:
            await self.store.end_session(session_id)

    def _key(self) -> bytes:
        return hashlib.sha256(b"triplane session cookie\0" + self.secret.encode()).digest()

    def _session_id(self, cookie: str) -> str | None:
        try:
            claims = jwt.decode(
                cookie, self._key(), algorithms=[_ALGORITHM], options={"require": ["jti", "exp"]}
            )
        except jwt.InvalidTokenError:
            return None
        session_id = str(claims["jti"])
        return session_id if is_id("session", session_id) else None
