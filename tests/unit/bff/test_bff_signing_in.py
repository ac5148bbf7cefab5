import httpx
import pytest

from http_app import ADDRESS, HttpApp


async def test_the_link_sets_a_safe_cookie_and_goes_to_the_app(http_app: HttpApp) -> None:
    link = await http_app.sessions.make_sign_in_link()
    async with http_app.anonymous() as client:
        answer = await client.get("/sign-in", params={"token": link.token})

    cookie = answer.headers["set-cookie"].lower()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "triplane_session=" in cookie
    for attribute in ("httponly", "samesite=lax", "path=/", "max-age=2592000"):
        assert attribute in cookie
    assert "secure" not in cookie


async def test_behind_https_the_cookie_never_travels_in_the_clear() -> None:
    http_app = HttpApp(public_url="https://chat.example")
    link = await http_app.sessions.make_sign_in_link()
    async with http_app.anonymous() as client:
        answer = await client.get("/sign-in", params={"token": link.token})

    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("token", ["", "wrong", "\0", "x" * 1000])
async def test_a_link_that_does_not_work_says_how_to_get_another(http_app: HttpApp, token: str) -> None:
    async with http_app.anonymous() as client:
        answer = await client.get("/sign-in", params={"token": token})

    assert answer.status_code == 403
    assert "triplane sign-in-link" in answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert "set-cookie" not in answer.headers


async def test_a_signed_in_browser_is_known_until_it_signs_out(http_app: HttpApp) -> None:
    async with http_app.with_cookie() as browser:
        cookies = dict(browser.cookies)
        known = await browser.get("/v1/me")
        left = await browser.delete("/v1/session", headers={"origin": ADDRESS})
        browser.cookies = httpx.Cookies(cookies)
        after = await browser.get("/v1/me")

    assert known.json()["is_admin"] is True
    assert known.json()["object"] == "user"
    assert left.json() == {"object": "session.deleted", "deleted": True}
    assert "max-age=0" in left.headers["set-cookie"].lower()
    assert after.status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": ADDRESS}, 403),
        ({"origin": ADDRESS}, 200),
        ({"origin": "http://triplane.test.evil.example"}, 403),
        ({"origin": "http://triplane.test:81"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[broken"}, 403),
        ({}, 403),
    ],
)
async def test_only_our_own_page_may_change_things_with_the_cookie(
    http_app: HttpApp, headers: dict[str, str], status: int
) -> None:
    async with http_app.with_cookie() as browser:
        answer = await browser.post("/v1/conversations", json={}, headers=headers)

    assert answer.status_code == status


async def test_a_foreign_page_may_not_use_the_cookie_but_a_key_needs_no_page(http_app: HttpApp) -> None:
    async with http_app.with_key() as client:
        answer = await client.post("/v1/conversations", json={}, headers={"sec-fetch-site": "cross-site"})

    assert answer.status_code == 200


async def test_a_key_is_shown_once_and_refused_once_revoked(http_app: HttpApp) -> None:
    async with http_app.with_key() as client:
        made = (await client.post("/v1/api_keys", json={"name": "laptop"})).json()
        listed = (await client.get("/v1/api_keys")).json()
        mine = {"authorization": f"Bearer {made['key']}"}
        before = await client.get("/v1/me", headers=mine)
        gone = await client.delete(f"/v1/api_keys/{made['id']}")
        after = await client.get("/v1/me", headers=mine)

    assert made["key"].startswith(made["prefix"])
    assert made["key"] not in str(listed)
    assert {key["name"] for key in listed["data"]} == {"test", "laptop"}
    assert before.status_code == 200
    assert gone.json() == {"id": made["id"], "object": "api_key.deleted", "deleted": True}
    assert after.status_code == 401


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer tp-wrong"}, {"cookie": "triplane_session=x"}]
)
async def test_who_is_not_known_is_told_what_to_do(http_app: HttpApp, headers: dict[str, str]) -> None:
    async with http_app.anonymous() as client:
        answer = await client.get("/v1/conversations", headers=headers)

    error = answer.json()["error"]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert "triplane " in error["message"]


async def test_every_route_asks_who_comes_unless_it_is_public_on_purpose(http_app: HttpApp) -> None:
    public = {"/sign-in", "/healthz", "/readyz", "/metrics"}
    async with http_app.anonymous() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        answers = {
            (method, path): (await client.request(method, path.replace("{", "").replace("}", ""))).status_code
            for path, operations in paths.items()
            for method in operations
            if path not in public
        }

    assert len(answers) > 10
    assert set(answers.values()) == {401}
