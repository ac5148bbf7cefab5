"""The page as something one installs, and opens without a network."""

import pytest
from playwright.async_api import expect

from page_fixture import OpenPage
from web_seed import call

pytestmark = pytest.mark.timeout(120)

CACHED = """async () => {
    const keys = [];
    for (const name of await caches.keys()) {
        for (const { url } of await (await caches.open(name)).keys()) keys.push(new URL(url).pathname);
    }
    return keys;
}"""


async def test_the_page_can_be_installed(open_page: OpenPage) -> None:
    async with open_page() as page:
        manifest = await call(page, "GET", "/manifest.webmanifest")
        assert manifest["display"] == "standalone"
        for icon in manifest["icons"]:
            assert (await page.request.get(icon["src"])).headers["content-type"] == "image/png"


async def test_the_shell_opens_offline_and_no_answer_of_the_api_is_kept(open_page: OpenPage) -> None:
    async with open_page() as page:
        await page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        await page.wait_for_function("navigator.serviceWorker.controller !== null")
        await page.reload()
        await page.wait_for_function(f"async () => (await ({CACHED})()).some((path) => path.endsWith('.js'))")
        cached = await page.evaluate(CACHED)
        assert "/" in cached
        assert [path for path in cached if path.startswith(("/v1", "/sign-in", "/share"))] == []
        html = await page.evaluate("caches.match('/').then((kept) => kept.text())")
        assert "/assets/" in html
        await expect(page.get_by_role("textbox", name="Message", exact=True)).to_be_visible()
