"""Exports and imports over HTTP and a real PostgreSQL; files are written here, after known formats."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from served_app import Served
from servers import add_user
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.transfer import PostgresTransfer
from triplane.domain.conversation import Principal
from triplane.orchestration.accounts.open_streams import OpenStreams
from triplane.orchestration.exporting import all_conversations, as_json, close_fences
from triplane.orchestration.importing import import_conversations, open_file

END_S = 20


def node(name: str, parent: str | None, *parts: Any, role: str = "user", **fields: Any) -> dict[str, Any]:
    message = {
        "id": name,
        "author": {"role": role},
        "create_time": fields.pop("at", None),
        "content": {"content_type": fields.pop("kind", "text"), "parts": list(parts)},
        **fields,
    }
    return {"id": name, "parent": parent, "children": [], "message": message}


CHATGPT = {
    "title": "Boats",
    "create_time": 1700000000.5,
    "update_time": 1700000100.0,
    "current_node": "a2",
    "conversation_id": "c-1",
    "mapping": {
        "root": {"id": "root", "message": None, "parent": None, "children": ["sys"]},
        "sys": node("sys", "root", "", role="system"),
        "q": node("q", "sys", "Which boat?", at=1700000001.0),
        "a1": node("a1", "q", "A raft.", role="assistant", at=1700000002.0),
        "tool": node("tool", "q", "search(boats)", role="assistant", recipient="browser", at=1700000003.0),
        "found": node("found", "tool", "results", role="tool", at=1700000004.0),
        "a2": node(
            "a2",
            "found",
            {"content_type": "image_asset_pointer"},
            "A ketch.",
            role="assistant",
            kind="multimodal_text",
            metadata={"model_slug": "gpt-x"},
        ),
    },
}

OPEN_WEBUI = {
    "id": "w-1",
    "title": "Birds",
    "created_at": 1700000000,
    "updated_at": 1700000009,
    "pinned": True,
    "chat": {
        "history": {
            "currentId": "3",
            "messages": {
                "1": {
                    "id": "1", "parentId": None, "childrenIds": ["2", "3"], "role": "user",
                    "content": "A bird?",
                },
                "2": {"id": "2", "parentId": "1", "childrenIds": [], "role": "assistant", "content": "Wren."},
                "3": {
                    "id": "3", "childrenIds": [], "role": "assistant", "content": "Kite.", "model": "llama",
                    "timestamp": 1700000005000,
                },
            },
        }
    },
}  # fmt: skip


@pytest.fixture
async def client(bff: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with bff.client() as made:
        yield made


async def imported(client: httpx.AsyncClient, body: Any) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await client.post("/v1/import", content=content)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def only_conversation(client: httpx.AsyncClient) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    (conversation,) = (await client.get("/v1/conversations")).json()["data"]
    messages = (await client.get(f"/v1/conversations/{conversation['id']}/messages")).json()["data"]
    return conversation, messages


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.json", content)
    return buffer.getvalue()


@pytest.mark.parametrize("is_zip", [False, True])
async def test_chatgpts_tree_comes_with_its_branches_and_only_once(
    client: httpx.AsyncClient, is_zip: bool
) -> None:
    file: Any = zipped(user=b"{}", conversations=json.dumps([CHATGPT]).encode()) if is_zip else [CHATGPT]

    first, again = await imported(client, file), await imported(client, file)

    assert (first["source"], first["conversations"], first["messages"]) == ("chatgpt", 1, 3)
    assert (again["conversations"], again["already"]) == (0, 1)
    conversation, messages = await only_conversation(client)
    assert (conversation["title"], conversation["updated_at"]) == ("Boats", 1700000100)
    assert [each["content"] for each in messages] == ["Which boat?", "A raft.", "[image]\nA ketch."]
    assert [each["parent_id"] for each in messages] == [None, messages[0]["id"], messages[0]["id"]]
    assert conversation["active_leaf"] == messages[2]["id"]
    assert messages[2]["model"] == "gpt-x"


async def test_open_webuis_chats_come_with_their_branches(client: httpx.AsyncClient) -> None:
    told = await imported(client, [OPEN_WEBUI])

    assert (told["source"], told["conversations"], told["messages"]) == ("open_webui", 1, 3)
    conversation, messages = await only_conversation(client)
    assert conversation["pinned"] is True
    assert [each["content"] for each in messages] == ["A bird?", "Wren.", "Kite."]
    assert messages[2]["parent_id"] == messages[0]["id"]
    assert (messages[2]["created_at"], messages[2]["model"]) == (1700000005, "llama")


async def test_what_is_wrong_with_one_conversation_skips_that_one_and_says_where(
    client: httpx.AsyncClient,
) -> None:
    wrong = {"title": "Broken", "mapping": {"a": {"message": {"author": {"role": 5}}}}}
    circle = {"title": "Round", "mapping": {"a": node("a", "b", "x"), "b": node("b", "a", "y")}}
    empty: dict[str, Any] = {"title": "Empty", "mapping": {}}

    told = await imported(client, [wrong, CHATGPT, circle, empty])

    assert told["conversations"] == 1
    reasons = {each["title"]: each["reason"] for each in told["skipped"]}
    assert "$.mapping[...].message.author.role" in reasons["Broken"]
    assert "circle" in reasons["Round"]
    assert "no message" in reasons["Empty"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b"[1, 2]",
        b'{"a": 1}',
        b"[" * 100_000,
        b'[{"mapping": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
        b"PK\x03\x04 no archive",
        zipped(other=b"nothing"),
        b'{"object": "triplane.export", "version": 2, "conversations": []}',
        b"\xff\xfe[",
    ],
)
async def test_a_file_that_is_no_export_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/v1/import", content=body)

    assert answer.status_code == 400, answer.text
    assert (await client.get("/v1/conversations")).json()["data"] == []


async def test_an_export_none_of_whose_conversations_can_be_read_is_told_one_by_one(
    client: httpx.AsyncClient,
) -> None:
    told = await imported(client, [{"title": "Empty", "mapping": {}}])

    assert (told["conversations"], [each["title"] for each in told["skipped"]]) == (0, ["Empty"])
    assert (await client.get("/v1/conversations")).json()["data"] == []


async def test_a_zip_bomb_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/import", content=zipped(conversations=b" " * (130 * 2**20)))
    assert answer.status_code == 413


class HeldImport:
    """An import that stands at its first conversation until `release` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.release, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        add = PostgresTransfer.add

        async def held(store: PostgresTransfer, *arguments: Any) -> bool:
            self.begun.set()
            try:
                await self.release.wait()
            finally:
                self.ended.set()
            return await add(store, *arguments)

        monkeypatch.setattr(PostgresTransfer, "add", held)


async def test_who_comes_while_a_file_is_imported_is_told_so_at_once(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, file = HeldImport(monkeypatch), json.dumps([CHATGPT]).encode()
    async with asyncio.timeout(END_S):
        first = asyncio.create_task(client.post("/v1/import", content=file))
        await held.begun.wait()
        second = await client.post("/v1/import", content=file)
        held.release.set()
        assert (await first).json()["conversations"] == 1

    assert (second.status_code, second.json()["error"]["code"]) == (503, "overloaded")
    assert int(second.headers["retry-after"]) > 0


async def test_a_slow_upload_keeps_nobody_from_importing(client: httpx.AsyncClient) -> None:
    file, begun, rest = json.dumps([CHATGPT]).encode(), asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield file[:10]
        begun.set()
        await rest.wait()
        yield file[10:]

    async with asyncio.timeout(END_S):
        slow = asyncio.create_task(client.post("/v1/import", content=slowly()))
        await begun.wait()
        assert (await imported(client, file))["conversations"] == 1
        rest.set()
        assert (await slow).json()["already"] == 1


async def test_an_import_ends_when_its_client_hangs_up(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, file = HeldImport(monkeypatch), json.dumps([CHATGPT]).encode()
    async with asyncio.timeout(END_S):
        hangs_up = asyncio.create_task(client.post("/v1/import", content=file))
        await held.begun.wait()
        hangs_up.cancel()
        await held.ended.wait()

    assert (await client.get("/v1/conversations")).json()["data"] == []


async def test_an_export_goes_on_behind_a_conversation_that_is_deleted_meanwhile(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [{"role": "user", "content": "Hi"}]
    ids = [(await client.post("/v1/conversations", json={"items": items})).json()["id"] for _ in range(2)]
    messages = PostgresConversations.messages

    async def deleted_meanwhile(
        store: PostgresConversations, who: Principal, conversation_id: str, *rest: Any, **fields: Any
    ) -> Any:
        if conversation_id == ids[0]:
            await store.delete(who, conversation_id)
        return await messages(store, who, conversation_id, *rest, **fields)

    monkeypatch.setattr(PostgresConversations, "messages", deleted_meanwhile)
    answer = await client.get("/v1/export")

    told = {each["id"]: len(each["messages"]) for each in answer.json()["conversations"]}
    assert told == {ids[0]: 0, ids[1]: 1}


async def test_an_export_breaks_off_when_its_readers_access_ends(
    bff: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = await bff.http_app.api_keys.create(await bff.http_app.administrator(), "laptop")
    await client.post("/v1/conversations", json={"items": [{"role": "user", "content": "Hi"}]})
    end, messages, ended = OpenStreams.end, PostgresConversations.messages, asyncio.Event()

    def noted(streams: OpenStreams, names: Iterable[tuple[str, str]]) -> None:
        names = set(names)
        end(streams, names)
        if key.id in {name for _, name in names}:
            ended.set()

    async def revoked_meanwhile(store: PostgresConversations, *arguments: Any, **fields: Any) -> Any:
        await client.delete(f"/v1/api_keys/{key.id}")
        await ended.wait()
        return await messages(store, *arguments, **fields)

    monkeypatch.setattr(OpenStreams, "end", noted)
    monkeypatch.setattr(PostgresConversations, "messages", revoked_meanwhile)
    async with asyncio.timeout(END_S):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/v1/export", headers={"authorization": f"Bearer {secret}"})


async def test_an_export_is_a_file_that_people_can_read(client: httpx.AsyncClient) -> None:
    items = [{"role": "user", "content": "Code?"}, {"role": "assistant", "content": "```python\nprint(1)"}]
    made = await client.post(
        "/v1/conversations", json={"title": "Öl & “Code”\nx", "items": [*items, items[0]]}
    )
    path = f"/v1/conversations/{made.json()['id']}/export"

    answer = await client.get(path)

    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.text.startswith("# Öl & “Code” x\n")
    assert "```python\nprint(1)\n```\n\n## You" in answer.text
    archive = zipfile.ZipFile(io.BytesIO((await client.get("/v1/export?format=markdown")).content))
    assert archive.testzip() is None
    assert [archive.read(name).decode() for name in archive.namelist()] == [answer.text]


@given(st.lists(st.sampled_from(["```", "````", "~~~", "```py", "text", "  ```", "a ``` b"]), max_size=8))
def test_no_message_leaves_a_code_block_open(lines: list[str]) -> None:
    text = "\n".join(lines)
    closed = close_fences(text)
    assert closed.startswith(text)
    assert close_fences(closed) == closed


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.lists(st.tuples(st.integers(0, 30), TEXTS), min_size=1, max_size=12), title=TEXTS)
async def test_what_was_exported_is_imported_the_same(
    database: Database, tree: list[tuple[int, str]], title: str
) -> None:
    nodes = {
        str(place): node(
            str(place), str(above % (place + 1) - 1) if above % (place + 1) else None, f"x{text}"
        )
        for place, (above, text) in enumerate(tree)
    }
    one, two = await add_user(database), await add_user(database)
    store = PostgresTransfer(database)
    file = json.dumps([{"title": title, "conversation_id": "c", "mapping": nodes}]).encode()
    assert (await import_conversations(one, open_file(file), store)).messages == len(tree)

    first = await exported(database, one)
    told = await import_conversations(two, open_file(first), store)
    second = await exported(database, two)

    assert (told.source, told.messages, told.skipped) == ("triplane", len(tree), [])
    assert without_ids(first) == without_ids(second)
    assert (await import_conversations(one, open_file(first), store)).already == 1


async def exported(database: Database, who: Principal) -> bytes:
    conversations = all_conversations(who, PostgresTransfer(database))
    return b"".join([part async for part in as_json(who, conversations, PostgresConversations(database))])


def without_ids(document: bytes) -> Any:
    """The conversations, with places in the list in place of ids."""
    conversations = json.loads(document)["conversations"]
    for conversation in conversations:
        places = {message["id"]: place for place, message in enumerate(conversation["messages"])}
        conversation |= {"id": None, "active_leaf": places[conversation["active_leaf"]]}
        for message in conversation["messages"]:
            message |= {"id": None, "parent_id": places.get(message["parent_id"])}
    return conversations
