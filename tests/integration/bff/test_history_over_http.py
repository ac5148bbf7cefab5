"""Projects, settings, search, shares, restore and bulk, over HTTP and real stores."""

import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from served_app import Served
from servers import add_user
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.purge import PostgresPurge
from triplane.adapters.redis.hot_window import RedisHotWindow
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.orchestration.bff.shares import READS_A_SECOND
from triplane.orchestration.purging import purge_all
from triplane.orchestration.searching import Segment, highlight


@pytest.fixture
async def client(bff: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with bff.client() as made:
        yield made


@pytest.fixture
async def stranger(bff: Served, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody else of the same tenant."""
    owner = await bff.http_app.administrator()
    other = await add_user(database, owner.tenant_id)
    _, key = await bff.http_app.api_keys.create(other, "stranger")
    async with httpx.AsyncClient(base_url=bff.url, headers={"authorization": f"Bearer {key}"}) as made:
        yield made


async def made(client: httpx.AsyncClient, text: str = "Hello there", **fields: Any) -> dict[str, Any]:
    items = [{"role": "user", "content": text}, {"role": "assistant", "content": "An answer."}]
    answer = await client.post("/v1/conversations", json={"items": items, **fields})
    assert answer.status_code == 200, answer.text
    conversation: dict[str, Any] = answer.json()
    return conversation


async def ids(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await client.get("/v1/conversations", params=query)
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["data"]]


async def found(client: httpx.AsyncClient, q: str, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/search", params={"q": q, **query})
    assert answer.status_code == 200, answer.text
    hits: list[dict[str, Any]] = answer.json()["data"]
    return hits


async def ask(client: httpx.AsyncClient, conversation: str, **fields: Any) -> httpx.Response:
    body = {"conversation_id": conversation, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return await client.post("/v1/chat/completions", json=body)


async def test_pins_archives_and_projects_choose_what_a_list_holds(client: httpx.AsyncClient) -> None:
    project = (await client.post("/v1/projects", json={"name": "Work"})).json()
    plain, pinned, archived = [(await made(client))["id"] for _ in range(3)]
    inside = (await made(client, project_id=project["id"]))["id"]
    hidden = await made(client, temporary=True)
    await client.patch(f"/v1/conversations/{pinned}", json={"pinned": True})
    await client.patch(f"/v1/conversations/{archived}", json={"archived": True})

    assert await ids(client) == [inside, pinned, plain]
    assert await ids(client, archived="true") == [archived]
    assert await ids(client, pinned="true") == [pinned]
    assert await ids(client, project_id=project["id"]) == [inside]
    assert await ids(client, project_id="none") == [pinned, plain]
    assert hidden["temporary"] is True
    assert (await client.get(f"/v1/projects/{project['id']}")).json()["conversations"] == 1
    out = (await client.patch(f"/v1/conversations/{inside}", json={"project_id": None})).json()
    assert out["project_id"] is None


async def test_an_empty_project_id_is_no_id_and_takes_nothing_out(client: httpx.AsyncClient) -> None:
    project = (await client.post("/v1/projects", json={"name": "Boats"})).json()["id"]
    conversation = (await made(client, project_id=project))["id"]
    move = {"action": "move", "ids": [conversation], "project_id": ""}

    one = await client.patch(f"/v1/conversations/{conversation}", json={"project_id": ""})
    many = await client.post("/v1/conversations/bulk", json=move)

    assert (one.status_code, many.status_code) == (404, 404)
    assert await ids(client, project_id=project) == [conversation]
    assert await ids(client, project_id="") == []


async def test_deleting_a_project_leaves_its_conversations(client: httpx.AsyncClient) -> None:
    project = (await client.post("/v1/projects", json={"name": "Work"})).json()["id"]
    inside = (await made(client, project_id=project))["id"]
    await client.patch(f"/v1/projects/{project}", json={"name": "Play", "instructions": "Rhyme."})
    listed = (await client.get("/v1/projects")).json()["data"]
    assert [(each["name"], each["instructions"]) for each in listed] == [("Play", "Rhyme.")]

    assert (await client.delete(f"/v1/projects/{project}")).json()["deleted"] is True

    assert (await client.get(f"/v1/conversations/{inside}")).json()["project_id"] is None
    assert (await client.get(f"/v1/projects/{project}")).status_code == 404


async def test_instructions_and_settings_hold_from_the_next_turn_on(
    bff: Served, client: httpx.AsyncClient, database: Database
) -> None:
    await database.execute("""UPDATE users SET settings = '{"instructions": "I am Ada."}'""")
    project = (await client.post("/v1/projects", json={"name": "P", "instructions": "Rhyme."})).json()["id"]
    settings = {"model": "model", "temperature": 0.25, "instructions": "Be formal."}
    conversation = (await made(client, project_id=project, settings=settings))["id"]

    first = await ask(client, conversation)
    again = await ask(client, conversation)
    await client.patch(f"/v1/projects/{project}", json={"instructions": "No rhymes."})
    third = await ask(client, conversation, temperature=1.0)

    assert [answer.status_code for answer in (first, again, third)] == [200, 200, 200], first.text
    asked = bff.gateway.requests
    systems = [request.messages[0].content for request in asked]
    assert systems[0] == "Be brief.\n\nI am Ada.\n\nRhyme.\n\nBe formal."
    assert systems[1] == systems[0]
    assert asked[1].messages[: len(asked[0].messages)] == asked[0].messages, "the prefix stays as it was"
    assert systems[2] == "Be brief.\n\nI am Ada.\n\nNo rhymes.\n\nBe formal."
    assert [request.sampling.temperature for request in asked] == [0.25, 0.25, 1.0]


async def test_a_turn_without_any_model_says_what_is_missing(client: httpx.AsyncClient) -> None:
    refused = await ask(client, (await made(client))["id"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")


async def test_a_deletion_is_taken_back_while_it_is_kept(client: httpx.AsyncClient) -> None:
    conversation = await made(client, "Zebra crossing")
    await client.delete(f"/v1/conversations/{conversation['id']}")
    assert await found(client, "zebra") == []

    restored = await client.post(f"/v1/conversations/{conversation['id']}/restore")

    assert restored.json() == conversation
    assert len(await found(client, "zebra")) == 1


async def test_what_was_deleted_is_removed_with_all_that_hangs_on_it(
    client: httpx.AsyncClient, database: Database, redis_pipeline: RedisPipeline
) -> None:
    kept, gone = (await made(client))["id"], (await made(client))["id"]
    old = (await made(client, temporary=True))["id"]
    await ask(client, gone, model="model")
    await client.post(f"/v1/conversations/{gone}/shares")
    await client.delete(f"/v1/conversations/{gone}")
    await database.execute(
        "UPDATE conversations SET updated_at = now() - interval '25 hours' WHERE id = $1", old
    )
    purge, hot = PostgresPurge(database), RedisHotWindow(redis_pipeline)
    assert await purge_all(timedelta(hours=24), purge, hot) == 1
    assert (await client.post(f"/v1/conversations/{gone}/restore")).status_code == 200
    await client.delete(f"/v1/conversations/{gone}")

    assert await purge_all(timedelta(0), purge, hot) == 1

    for table in ("messages", "turns", "summaries", "shares", "search_entries"):
        left = await database.fetch(f"SELECT DISTINCT conversation_id FROM {table}")
        assert {row[0] for row in left} <= {kept}, table
    assert await database.fetchval("SELECT count(*) FROM usage_events WHERE conversation_id = $1", gone) == 1
    assert (await client.post(f"/v1/conversations/{gone}/restore")).status_code == 404
    assert await ids(client) == [kept]


@pytest.mark.parametrize(
    ("before", "action", "expected"),
    [
        ({}, "archive", {"archived": True}),
        ({"archived": True}, "unarchive", {"archived": False}),
        ({}, "pin", {"pinned": True}),
        ({"pinned": True}, "unpin", {"pinned": False}),
    ],
)
async def test_many_are_changed_at_once_and_others_arent_found(
    client: httpx.AsyncClient,
    stranger: httpx.AsyncClient,
    before: dict[str, bool],
    action: str,
    expected: dict[str, bool],
) -> None:
    mine, theirs = [await made(client) for _ in range(2)], await made(stranger)
    for each in mine:
        await client.patch(f"/v1/conversations/{each['id']}", json=before)

    done = await changed_at_once(client, [*mine, theirs], {"action": action})

    assert done == {"done": [each["id"] for each in mine], "not_found": [theirs["id"], "conv_x"]}
    for each in mine:
        assert await read(client, each) == each | expected
    assert await read(stranger, theirs) == theirs


async def test_many_are_deleted_and_restored_at_once_and_others_arent_found(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    mine, theirs = [await made(client) for _ in range(2)], await made(stranger)
    expected = {"done": [each["id"] for each in mine], "not_found": [theirs["id"], "conv_x"]}

    assert await changed_at_once(client, [*mine, theirs], {"action": "delete"}) == expected
    for each in mine:
        assert (await client.get(f"/v1/conversations/{each['id']}")).status_code == 404
    assert await read(stranger, theirs) == theirs

    assert await changed_at_once(client, [*mine, theirs], {"action": "restore"}) == expected
    for each in mine:
        assert await read(client, each) == each


async def test_many_are_moved_at_once_and_others_arent_found(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    mine, theirs = [await made(client) for _ in range(2)], await made(stranger)
    project = (await client.post("/v1/projects", json={"name": "W"})).json()["id"]

    done = await changed_at_once(client, [*mine, theirs], {"action": "move", "project_id": project})

    assert done == {"done": [each["id"] for each in mine], "not_found": [theirs["id"], "conv_x"]}
    for each in mine:
        assert await read(client, each) == each | {"project_id": project}
    assert await read(stranger, theirs) == theirs


async def changed_at_once(
    client: httpx.AsyncClient, conversations: list[dict[str, Any]], body: dict[str, Any]
) -> dict[str, Any]:
    """What is said of these, and of one that there isn't."""
    asked = [*(each["id"] for each in conversations), "conv_x"]
    answer = await client.post("/v1/conversations/bulk", json=body | {"ids": asked})
    assert answer.status_code == 200, answer.text
    return {name: answer.json()[name] for name in ("done", "not_found")}


async def read(client: httpx.AsyncClient, conversation: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/v1/conversations/{conversation['id']}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_search_finds_titles_first_then_messages_each_conversation_once(
    client: httpx.AsyncClient,
) -> None:
    by_message = (await made(client, "The otter swims. Otters, otters, Öttér!", title="River"))["id"]
    by_title = (await made(client, title="About an otter"))["id"]
    archived = (await made(client, "otter"))["id"]
    await client.patch(f"/v1/conversations/{archived}", json={"archived": True})
    await made(client, "otter", temporary=True)

    hits = await found(client, "OTTE")

    assert [hit["conversation_id"] for hit in hits] == [by_title, by_message]
    assert hits[0]["title"] == [
        {"text": "About an ", "hit": False},
        {"text": "otte", "hit": True},
        {"text": "r", "hit": False},
    ]
    assert [piece["text"] for piece in hits[1]["snippet"] if piece["hit"]] == ["otte", "Otte", "otte", "Ötté"]
    assert archived in [
        hit["conversation_id"] for hit in await found(client, "otter", include_archived="true")
    ]
    assert await found(client, "?!") == []


async def test_hits_are_shown_beside_the_loop(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(client, title="A heron")
    threads: list[threading.Thread] = []

    def noted(text: str, query: str) -> list[Segment]:
        threads.append(threading.current_thread())
        return highlight(text, query)

    monkeypatch.setattr("triplane.orchestration.bff.search.highlight", noted)

    assert len(await found(client, "heron")) == 1
    assert threads[0] is not threading.main_thread()


async def test_pages_of_a_search_hold_each_hit_once(client: httpx.AsyncClient) -> None:
    expected = {
        (await made(client, f"walrus {number}", title=None if number % 2 else "Walrus"))["id"]
        for number in range(5)
    }
    seen: list[str] = []
    query: dict[str, Any] = {"q": "walrus", "limit": 2}
    while True:
        page = (await client.get("/v1/search", params=query)).json()
        seen += [hit["conversation_id"] for hit in page["data"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert (len(seen), set(seen)) == (5, expected)
    assert (await client.get("/v1/search", params={"q": "x", "after": "???"})).status_code == 400


async def test_a_share_is_a_snapshot_that_anybody_with_its_secret_reads_until_it_is_revoked(
    bff: Served, client: httpx.AsyncClient, database: Database
) -> None:
    conversation = (await made(client, "Shared words", title="Open"))["id"]
    share = (await client.post(f"/v1/conversations/{conversation}/shares")).json()
    secret = share["url"].rpartition("/share/")[2]
    await ask(client, conversation, model="model")
    async with httpx.AsyncClient(base_url=bff.url) as anybody:
        read = await anybody.get(f"/v1/shared/{secret}")
        assert read.status_code == 200
        assert (read.headers["cache-control"], read.headers["x-robots-tag"]) == (
            "no-store",
            "noindex, nofollow",
        )
        assert [(each["role"], each["content"]) for each in read.json()["messages"]] == [
            ("user", "Shared words"), ("assistant", "An answer."),
        ]  # fmt: skip
        assert set(read.json()["messages"][0]) == {"role", "content", "model", "created_at"}
        listed = (await client.get("/v1/shares", params={"conversation_id": conversation})).json()["data"]
        assert [each["id"] for each in listed] == [share["id"]]
        assert "url" not in listed[0]
        rows = str([dict(row) for row in await database.fetch("SELECT * FROM shares")])
        assert secret not in rows
        await client.delete(f"/v1/conversations/{conversation}")
        assert (await anybody.get(f"/v1/shared/{secret}")).status_code == 404
        await client.post(f"/v1/conversations/{conversation}/restore")
        assert (await anybody.get(f"/v1/shared/{secret}")).status_code == 200
        assert (await client.delete(f"/v1/shares/{share['id']}")).status_code == 200
        assert (await anybody.get(f"/v1/shared/{secret}")).status_code == 404


async def test_who_reads_shares_too_fast_keeps_nobody_else_from_reading(
    bff: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triplane.orchestration.bff.shares.monotonic", lambda: 5.0)
    async with httpx.AsyncClient(base_url=bff.url) as anybody:
        fast = [(await anybody.get("/v1/shared/x")).status_code for _ in range(READS_A_SECOND + 1)]
        other = await anybody.get("/v1/shared/x", headers={"x-forwarded-for": "192.0.2.7"})

    assert fast == [404] * READS_A_SECOND + [429]
    assert other.status_code == 404


async def test_nobody_else_reaches_any_of_it(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    project = (await client.post("/v1/projects", json={"name": "Mine"})).json()["id"]
    conversation = (await made(client, "Secret otter", title="Otter", project_id=project))["id"]
    share = (await client.post(f"/v1/conversations/{conversation}/shares")).json()["id"]
    own = (await made(stranger))["id"]
    answers = [
        await stranger.get(f"/v1/projects/{project}"),
        await stranger.patch(f"/v1/projects/{project}", json={"name": "Theirs"}),
        await stranger.delete(f"/v1/projects/{project}"),
        await stranger.post("/v1/conversations", json={"project_id": project}),
        await stranger.patch(f"/v1/conversations/{own}", json={"project_id": project}),
        await stranger.post(
            "/v1/conversations/bulk", json={"action": "move", "ids": [own], "project_id": project}
        ),
        await stranger.post(f"/v1/conversations/{conversation}/restore"),
        await stranger.post(f"/v1/conversations/{conversation}/shares"),
        await stranger.delete(f"/v1/shares/{share}"),
        await stranger.get(f"/v1/conversations/{conversation}/export"),
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert (await stranger.get("/v1/projects")).json()["data"] == []
    assert (await stranger.get("/v1/shares")).json()["data"] == []
    assert await found(stranger, "otter") == []
