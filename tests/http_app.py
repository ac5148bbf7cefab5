"""The HTTP application over given stores, and a client that knows a key: what tests of the routes share."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from litestar.types import ControllerRouterHandler

from fakes import FakeAccountStore, FakeConversationStore
from triplane.domain.conversation import Principal
from triplane.experience.web_app import WebApp
from triplane.orchestration.accounts.administration_ports import (
    AuditLog,
    DefaultSettings,
    NobodyAudits,
    SettingsStore,
)
from triplane.orchestration.accounts.api_keys import ApiKeys
from triplane.orchestration.accounts.last_seen import LastSeen
from triplane.orchestration.accounts.open_streams import OpenStreams
from triplane.orchestration.accounts.ports import AccountStore
from triplane.orchestration.accounts.sessions import Sessions, principal_of
from triplane.orchestration.announcing import Announcer, NobodyListens
from triplane.orchestration.bff.app import create_app
from triplane.orchestration.bff.deps import AppDeps, Check
from triplane.orchestration.bff.edge import Edge
from triplane.orchestration.conversation_ports import ConversationStore
from triplane.orchestration.ports import Gateway
from turn_fakes import ScriptedGateway

ADDRESS = "http://triplane.test"
MAX_BODY = 64 * 1024


@dataclass
class HttpApp:
    accounts: AccountStore = field(default_factory=FakeAccountStore)
    conversations: ConversationStore = field(default_factory=FakeConversationStore)
    gateway: Gateway = field(default_factory=ScriptedGateway)
    checks: dict[str, Check] = field(default_factory=dict)
    public_url: str | None = None
    announcer: Announcer = field(default_factory=NobodyListens)
    settings: SettingsStore = field(default_factory=DefaultSettings)
    audit: AuditLog = field(default_factory=NobodyAudits)
    streams: OpenStreams = field(default_factory=OpenStreams)
    last_seen: LastSeen = field(default_factory=LastSeen)
    dist: Path = Path("/nonexistent")
    extra_handlers: Sequence[ControllerRouterHandler] = ()

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.accounts, "test secret")
        self.api_keys = ApiKeys(self.accounts)

    def build(self) -> Edge:
        deps = AppDeps(
            conversations=self.conversations,
            gateway=self.gateway,
            sessions=self.sessions,
            api_keys=self.api_keys,
            checks=self.checks,
            metrics=lambda: b"triplane_up 1\n",
            web=WebApp(self.dist),
            max_body_bytes=MAX_BODY,
            public_url=self.public_url,
            announcer=self.announcer,
            settings=self.settings,
            audit=self.audit,
            streams=self.streams,
            last_seen=self.last_seen,
        )
        return create_app(deps, self.extra_handlers)

    async def administrator(self) -> Principal:
        return principal_of(await self.accounts.ensure_first_administrator())

    async def new_key(self) -> str:
        return (await self.api_keys.create(await self.administrator(), "test"))[1]

    @asynccontextmanager
    async def anonymous(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.build(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            yield client

    @asynccontextmanager
    async def with_key(self) -> AsyncIterator[httpx.AsyncClient]:
        async with self.anonymous() as client:
            client.headers["authorization"] = f"Bearer {await self.new_key()}"
            yield client

    @asynccontextmanager
    async def with_cookie(self) -> AsyncIterator[httpx.AsyncClient]:
        """A browser that came through the sign-in link."""
        async with self.anonymous() as client:
            link = await self.sessions.make_sign_in_link()
            answer = await client.get("/sign-in", params={"token": link.token})
            assert answer.status_code == 303
            yield client


@pytest.fixture
def http_app() -> HttpApp:
    return HttpApp()


@pytest.fixture
async def client(http_app: HttpApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `http_app` with the administrator's key."""
    async with http_app.with_key() as client:
        yield client
