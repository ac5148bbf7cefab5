import httpx
import pytest

from http_app import HttpApp


async def test_a_conversation_has_openais_shape(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/conversations", json={"metadata": {"topic": "x"}})).json()

    assert made["id"].startswith("conv_")
    assert made["object"] == "conversation"
    assert isinstance(made["created_at"], int)
    assert made["metadata"] == {"topic": "x"}
    assert made["title"] is None
    assert (await client.get(f"/v1/conversations/{made['id']}")).json() == made


async def test_an_empty_body_begins_an_empty_conversation(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/conversations")).status_code == 200


async def test_items_become_messages_oldest_first(client: httpx.AsyncClient) -> None:
    items = [
        {"type": "message", "role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "hello"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "more"}]},
    ]
    made = (await client.post("/v1/conversations", json={"items": items})).json()

    first = (await client.get(f"/v1/conversations/{made['id']}/messages?limit=2")).json()
    rest = (await client.get(f"/v1/conversations/{made['id']}/messages?after=2")).json()

    assert [(m["seq"], m["role"]) for m in first["data"]] == [(1, "user"), (2, "assistant")]
    assert first["has_more"] is True
    assert rest["data"][0]["content"] == [{"type": "text", "text": "more"}]
    assert rest["has_more"] is False
    assert rest["data"][0]["object"] == "conversation.message"


async def test_messages_are_read_from_the_newest_back_too(client: httpx.AsyncClient) -> None:
    items = [{"type": "message", "role": "user", "content": str(number)} for number in range(1, 6)]
    made = (await client.post("/v1/conversations", json={"items": items})).json()
    address = f"/v1/conversations/{made['id']}/messages"

    newest = (await client.get(f"{address}?limit=2&before=2147483647")).json()
    older = (await client.get(f"{address}?limit=3&before=4")).json()

    assert [m["seq"] for m in newest["data"]] == [4, 5]
    assert newest["has_more"] is True
    assert [m["seq"] for m in older["data"]] == [1, 2, 3]
    assert older["has_more"] is False


async def test_pages_go_from_the_newest_back(client: httpx.AsyncClient) -> None:
    made = [(await client.post("/v1/conversations", json={})).json()["id"] for _ in range(3)]

    first = (await client.get("/v1/conversations?limit=2")).json()
    rest = (await client.get(f"/v1/conversations?limit=2&after={first['last_id']}")).json()

    assert [one["id"] for one in first["data"]] == [made[2], made[1]]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert rest["first_id"] == rest["last_id"] == made[0]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_rename_keeps_the_metadata(client: httpx.AsyncClient, method: str) -> None:
    made = (await client.post("/v1/conversations", json={"metadata": {"a": "b"}})).json()

    changed = await client.request(method, f"/v1/conversations/{made['id']}", json={"title": " New "})

    assert changed.json()["title"] == "New"
    assert changed.json()["metadata"] == {"a": "b"}


async def test_a_deleted_conversation_is_not_found(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/conversations", json={})).json()["id"]

    gone = await client.delete(f"/v1/conversations/{made}")

    assert gone.json() == {"id": made, "object": "conversation.deleted", "deleted": True}
    for answer in (
        await client.get(f"/v1/conversations/{made}"),
        await client.delete(f"/v1/conversations/{made}"),
        await client.get(f"/v1/conversations/{made}/messages"),
        await client.post(f"/v1/conversations/{made}", json={"title": "x"}),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("path", ["conv_" + "0" * 32, "conv_x", "nonsense", "%00", "conv_%F0%9F%98%80"])
async def test_what_is_not_yours_does_not_exist(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/v1/conversations/{path}")).status_code == 404


async def test_another_user_sees_none_of_it(http_app: HttpApp) -> None:
    async with (
        http_app.with_key() as client,
        HttpApp(conversations=http_app.conversations).with_key() as other,
    ):
        made = (await client.post("/v1/conversations", json={})).json()["id"]

        assert (await other.get(f"/v1/conversations/{made}")).status_code == 404
        assert (await other.get("/v1/conversations")).json()["data"] == []


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"title": ""}, "title", "invalid_request"),
        ({"title": "  "}, "title", "invalid_request"),
        ({"title": "x" * 201}, "title", "invalid_request"),
        ({"title": 5}, "title", "invalid_request"),
        ({"titel": "x"}, "titel", "unsupported_parameter"),
        ({"metadata": {"a": 1}}, "metadata", "invalid_request"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "invalid_request"),
        ({"metadata": {"k": "v" * 513}}, "metadata", "invalid_request"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_request"),
        ({"items": [{"role": "user"}]}, "items[0].content", "invalid_request"),
        ({"items": [{"role": "user", "content": ""}]}, "items[0].content", "invalid_request"),
        ({"items": [{"role": "tool", "content": "x"}]}, "items[0].role", "invalid_request"),
        ({"items": [{"role": "user", "content": "x", "mood": 1}]}, "items[0].mood", "unsupported_parameter"),
        (
            {"items": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "items[0].content[0].type",
            "invalid_request",
        ),
        ({"items": [{"role": "user", "content": "a\0b"}]}, "items[0].content", "invalid_request"),
        ({"metadata": {"a": "\0"}}, "metadata.a", "invalid_request"),
        ({"metadata": {"\0": "a"}}, "metadata", "invalid_request"),
    ],
)
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, body: dict[str, object], param: str, code: str
) -> None:
    answer = await client.post("/v1/conversations", json=body)

    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "after=x", "after=%00"])
async def test_a_wrong_page_is_refused_by_name(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/v1/conversations?{query}")

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=99999999999999999999", "limit=1001", "after=1.5", "before=0", "before=9&after=1"],
)
async def test_a_wrong_page_of_messages_is_refused_by_name(client: httpx.AsyncClient, query: str) -> None:
    made = (await client.post("/v1/conversations", json={})).json()["id"]

    answer = await client.get(f"/v1/conversations/{made}/messages?{query}")

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]
