"""In-memory stores for unit tests: small, and true to the ports they stand in for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from triplane.domain.completion import Message
from triplane.domain.conversation import Conversation, Principal, StoredMessage
from triplane.domain.errors import NotFound
from triplane.domain.ids import new_id
from triplane.orchestration.accounts.ports import UNKNOWN_ORIGIN, ApiKey, Origin, Session, User
from triplane.orchestration.conversation_ports import (
    BulkAction,
    ConversationChange,
    ConversationFilter,
    NewConversation,
)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class FakeAccountStore:
    users: dict[str, User] = field(default_factory=dict)
    links: dict[bytes, tuple[User, datetime]] = field(default_factory=dict)
    sessions: dict[str, tuple[User, datetime]] = field(default_factory=dict)
    keys: dict[bytes, tuple[Principal, ApiKey]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    async def ensure_first_administrator(self) -> User:
        if not self.users:
            user = User(id=new_id("user"), tenant_id=new_id("tenant"), name="Administrator", is_admin=True)
            self.users[user.id] = user
        return next(iter(self.users.values()))

    async def user(self, who: Principal) -> User:
        user = self.users.get(who.user_id)
        if user is None or user.tenant_id != who.tenant_id:
            raise NotFound("There is no such user.")
        return user

    async def add_sign_in_link(self, user: User, token_sha256: bytes, expires_at: datetime) -> None:
        self.links[token_sha256] = (user, expires_at)

    async def redeem_sign_in_link(self, token_sha256: bytes) -> User | None:
        user, expires_at = self.links.pop(token_sha256, (None, _now()))
        return user if expires_at > _now() else None

    async def add_session(
        self, user: User, session_id: str, expires_at: datetime, origin: Origin = UNKNOWN_ORIGIN
    ) -> None:
        self.sessions[session_id] = (user, expires_at)

    async def find_session(self, session_id: str) -> User | None:
        user, expires_at = self.sessions.get(session_id, (None, _now()))
        return user if expires_at > _now() else None

    async def end_session(self, session_id: str) -> None:
        self.sessions.pop(session_id, None)

    async def list_sessions(self, who: Principal) -> list[Session]:
        return []

    async def end_own_session(self, who: Principal, session_id: str) -> None:
        await self.end_session(session_id)

    async def end_other_sessions(self, who: Principal) -> int:
        return 0

    async def note_seen(self, sessions: Sequence[tuple[str, str]]) -> None:
        self.seen += [session_id for _, session_id in sessions]

    async def add_api_key(self, who: Principal, key: ApiKey, secret_sha256: bytes) -> None:
        self.keys[secret_sha256] = (msgspec.structs.replace(who, api_key_id=key.id), key)

    async def find_api_key(self, secret_sha256: bytes) -> Principal | None:
        found = self.keys.get(secret_sha256)
        return found[0] if found and found[1].revoked_at is None else None

    async def list_api_keys(self, who: Principal) -> list[ApiKey]:
        return [key for owner, key in self.keys.values() if _same(owner, who)]

    async def revoke_api_key(self, who: Principal, key_id: str) -> None:
        for secret, (owner, key) in self.keys.items():
            if key.id == key_id and _same(owner, who):
                self.keys[secret] = (owner, msgspec.structs.replace(key, revoked_at=_now()))
                return
        raise NotFound("There is no such API key.")


def _same(one: Principal, other: Principal) -> bool:
    return (one.tenant_id, one.user_id) == (other.tenant_id, other.user_id)


@dataclass
class _Kept:
    owner: Principal
    conversation: Conversation
    messages: list[StoredMessage]


@dataclass
class FakeConversationStore:
    kept: dict[str, _Kept] = field(default_factory=dict)

    def _find(self, who: Principal, conversation_id: str) -> _Kept:
        kept = self.kept.get(conversation_id)
        if kept is None or not _same(kept.owner, who):
            raise NotFound("There is no such conversation.")
        return kept

    async def create(
        self,
        who: Principal,
        title: str | None,
        metadata: dict[str, str],
        items: Sequence[Message],
        place: NewConversation | None = None,
    ) -> Conversation:
        place = place or NewConversation()
        messages = [
            StoredMessage(
                id=new_id("msg"),
                seq=seq,
                role=item.role,
                content=item.content,
                status="complete",
                created_at=_now(),
            )
            for seq, item in enumerate(items, 1)
        ]
        conversation = Conversation(
            id=new_id("conv"),
            title=title,
            created_at=_now(),
            updated_at=_now(),
            last_seq=len(messages),
            metadata=metadata,
            project_id=place.project_id,
            temporary=place.temporary,
            settings=place.settings,
        )
        self.kept[conversation.id] = _Kept(who, conversation, messages)
        return conversation

    async def get(self, who: Principal, conversation_id: str) -> Conversation:
        return self._find(who, conversation_id).conversation

    async def list_page(
        self, who: Principal, after: str | None, limit: int, which: ConversationFilter | None = None
    ) -> tuple[list[Conversation], bool]:
        archived = which.archived if which else False
        mine = [
            kept.conversation
            for kept in self.kept.values()
            if _same(kept.owner, who) and kept.conversation.archived == archived
        ]
        mine.sort(key=lambda conversation: (conversation.updated_at, conversation.id), reverse=True)
        if after is not None:
            mine = mine[mine.index(self._find(who, after).conversation) + 1 :]
        return mine[:limit], len(mine) > limit

    async def update(
        self,
        who: Principal,
        conversation_id: str,
        title: str | None,
        metadata: dict[str, str] | None,
        active_leaf: str | None = None,
        marks: ConversationChange | None = None,
    ) -> Conversation:
        kept, marks = self._find(who, conversation_id), marks or ConversationChange()
        kept.conversation = msgspec.structs.replace(
            kept.conversation,
            title=kept.conversation.title if title is None else title,
            metadata=kept.conversation.metadata if metadata is None else metadata,
            active_leaf=active_leaf or kept.conversation.active_leaf,
            pinned=kept.conversation.pinned if marks.pinned is None else marks.pinned,
            archived=kept.conversation.archived if marks.archived is None else marks.archived,
            settings=marks.settings or kept.conversation.settings,
            updated_at=_now(),
        )
        return kept.conversation

    async def set_generated_title(self, tenant_id: str, conversation_id: str, title: str) -> bool:
        kept = self.kept.get(conversation_id)
        if kept is None or kept.conversation.title is not None:
            return False
        kept.conversation = msgspec.structs.replace(kept.conversation, title=title)
        return True

    async def delete(self, who: Principal, conversation_id: str) -> None:
        self._find(who, conversation_id)
        del self.kept[conversation_id]

    async def restore(self, who: Principal, conversation_id: str) -> Conversation:
        return self._find(who, conversation_id).conversation

    async def change_many(
        self, who: Principal, ids: Sequence[str], action: BulkAction, project_id: str | None
    ) -> list[Conversation]:
        return [self._find(who, each).conversation for each in ids if each in self.kept]

    async def model_of(self, who: Principal, conversation_id: str) -> str | None:
        return self._find(who, conversation_id).conversation.settings.model

    async def messages(
        self, who: Principal, conversation_id: str, after_seq: int, limit: int, *, only_active: bool = False
    ) -> tuple[list[StoredMessage], bool]:
        found = [m for m in self._find(who, conversation_id).messages if m.seq > after_seq]
        return found[:limit], len(found) > limit

    async def messages_before(
        self, who: Principal, conversation_id: str, before_seq: int, limit: int
    ) -> tuple[list[StoredMessage], bool]:
        found = [m for m in self._find(who, conversation_id).messages if m.seq < before_seq]
        return found[-limit:], len(found) > limit

    async def path(
        self, who: Principal, conversation_id: str, leaf_id: str, from_seq: int
    ) -> list[StoredMessage]:
        return [m for m in self._find(who, conversation_id).messages if m.seq >= from_seq]
