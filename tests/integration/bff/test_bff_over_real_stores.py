"""The routes on a real socket, over PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from http_app import ADDRESS, MAX_BODY
from served_app import Served
from triplane.adapters.postgres.pool import Database
from triplane.domain.ids import new_id
from triplane.orchestration.accounts.sessions import principal_of


@pytest.fixture
async def official(bff: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{bff.url}/v1", api_key=bff.key, max_retries=0) as client:
        yield client


async def test_openais_client_begins_reads_changes_and_deletes_a_conversation(
    official: openai.AsyncOpenAI,
) -> None:
    made = await official.conversations.create(
        metadata={"topic": "demo"}, items=[{"type": "message", "role": "user", "content": "Hello!"}]
    )

    read = await official.conversations.retrieve(made.id)
    changed = await official.conversations.update(made.id, metadata={"topic": "new"})
    gone = await official.conversations.delete(made.id)

    assert read == made
    assert read.object == "conversation"
    assert read.metadata == {"topic": "demo"}
    assert changed.metadata == {"topic": "new"}
    assert gone.deleted is True
    with pytest.raises(openai.NotFoundError):
        await official.conversations.retrieve(made.id)


async def test_openais_client_begins_a_conversation_without_anything(official: openai.AsyncOpenAI) -> None:
    assert (await official.conversations.create()).metadata == {}


async def test_openais_client_lists_the_models(official: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in official.models.list()] == ["model"]
    assert (await official.models.retrieve("model")).owned_by == "test"
    with pytest.raises(openai.NotFoundError, match="model"):
        await official.models.retrieve("org/none")


async def test_openais_client_meets_its_own_exceptions(official: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        await official.with_options(api_key="tp-wrong").models.list()
    with pytest.raises(openai.BadRequestError) as refused:
        await official.conversations.create(metadata={"k": "v" * 600})
    assert refused.value.param == "metadata"


async def test_messages_come_back_oldest_first_and_paged(bff: Served) -> None:
    items = [{"role": "user", "content": f"line {n}"} for n in range(5)]
    async with bff.client() as client:
        made = (await client.post("/v1/conversations", json={"items": items})).json()["id"]
        first = (await client.get(f"/v1/conversations/{made}/messages?limit=3")).json()
        rest = (await client.get(f"/v1/conversations/{made}/messages?after=3")).json()

    assert [message["seq"] for message in first["data"] + rest["data"]] == [1, 2, 3, 4, 5]
    assert [message["content"] for message in rest["data"]] == ["line 3", "line 4"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert rest["data"][1]["parent_id"] == rest["data"][0]["id"]


async def test_another_tenants_conversation_does_not_exist(bff: Served, database: Database) -> None:
    stranger = (new_id("tenant"), new_id("user"))
    await database.execute("INSERT INTO tenants (id, name) VALUES ($1, 'Other')", stranger[0])
    await database.execute(
        "INSERT INTO users (tenant_id, id, name, is_admin) VALUES ($1, $2, 'Eve', true)", *stranger
    )
    owner = await bff.http_app.administrator()
    eve = type(owner)(tenant_id=stranger[0], user_id=stranger[1], is_admin=True)
    _, eves_key = await bff.http_app.api_keys.create(eve, "eve")
    async with bff.client() as client:
        made = (await client.post("/v1/conversations", json={})).json()["id"]
        client.headers["authorization"] = f"Bearer {eves_key}"
        answers = [
            await client.get(f"/v1/conversations/{made}"),
            await client.get(f"/v1/conversations/{made}/messages"),
            await client.patch(f"/v1/conversations/{made}", json={"title": "mine"}),
            await client.delete(f"/v1/conversations/{made}"),
        ]
        seen = (await client.get("/v1/conversations")).json()["data"]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert seen == []


async def test_a_browser_signs_in_once_and_out(bff: Served) -> None:
    link = await bff.http_app.sessions.make_sign_in_link()
    async with httpx.AsyncClient(base_url=bff.url) as browser:
        first = await browser.get("/sign-in", params={"token": link.token})
        second = await browser.get("/sign-in", params={"token": link.token})
        me = await browser.get("/v1/me")
        foreign = await browser.delete("/v1/session", headers={"origin": ADDRESS})
        out = await browser.delete("/v1/session", headers={"sec-fetch-site": "same-origin"})
        browser.cookies.set("triplane_session", first.cookies["triplane_session"])
        after = await browser.get("/v1/me")

    assert [answer.status_code for answer in (first, second, me, foreign, out, after)] == [
        303, 403, 200, 403, 200, 401,
    ]  # fmt: skip
    assert me.json()["name"] == "Administrator"


async def test_a_revoked_key_is_refused_at_once(bff: Served) -> None:
    who = principal_of(await bff.http_app.accounts.ensure_first_administrator())
    key, secret = await bff.http_app.api_keys.create(who, "laptop")
    async with bff.client() as client:
        mine = {"authorization": f"Bearer {secret}"}
        before = await client.get("/v1/me", headers=mine)
        await client.delete(f"/v1/api_keys/{key.id}")
        after = await client.get("/v1/me", headers=mine)
        unknown = await client.delete(f"/v1/api_keys/{new_id('key')}")

    assert (before.status_code, after.status_code, unknown.status_code) == (200, 401, 404)


async def test_a_body_over_the_limit_is_refused_whole_or_in_chunks(bff: Served, database: Database) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * (MAX_BODY // 4)

    headers = {"content-type": "application/json"}
    async with bff.client() as client:
        whole = await client.post("/v1/conversations", content=b" " * (16 * MAX_BODY), headers=headers)
        parts = await client.post("/v1/conversations", content=chunks(), headers=headers)

    assert (whole.status_code, parts.status_code) == (413, 413)
    assert await database.fetchval("SELECT count(*) FROM conversations") == 0


async def test_a_client_that_hangs_up_in_the_middle_of_its_body_leaves_nothing(
    bff: Served, database: Database
) -> None:
    host, port = bff.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/conversations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bff.key}\r\n"
    writer.write((head + 'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"title"').encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    async with bff.client() as client:
        assert (await client.get("/v1/conversations")).json()["data"] == []


async def test_it_is_ready_while_postgres_answers(bff: Served) -> None:
    async with bff.client() as client:
        ready = await client.get("/readyz")

    assert ready.json() == {"status": "ready", "checks": ["PostgreSQL"]}
