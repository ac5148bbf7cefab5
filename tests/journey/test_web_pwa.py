"""The page as something one installs, and opens without a network."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, StorageState, expect

from page_fixture import OpenPage, Served
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


BreakPage = Callable[..., Awaitable[Page]]


@pytest.fixture
async def break_page(browser: Browser, session: StorageState, served: Served) -> AsyncIterator[BreakPage]:
    """Opens a page that may complain, since the test takes something away from it."""
    async with AsyncExitStack() as stack:

        async def opened(**options: Any) -> Page:
            context = await browser.new_context(
                storage_state=session, base_url=served.url, locale="de-DE", **options
            )
            stack.push_async_callback(context.close)
            return await context.new_page()

        yield opened


async def test_the_shell_opens_offline_and_no_answer_of_the_api_is_kept(break_page: BreakPage) -> None:
    page = await break_page()
    is_loaded = asyncio.Event()

    async def after_load(route: Route) -> None:
        await is_loaded.wait()
        await route.continue_()

    # However late its language comes, the page is kept for the next time.
    await page.route("**/assets/de-*.js", after_load)
    await page.goto("/")
    is_loaded.set()
    await page.unroute_all(behavior="wait")
    await page.wait_for_function("() => navigator.serviceWorker.controller !== null")
    await page.reload()
    await page.wait_for_function(f"async () => (await ({CACHED})()).some((path) => path.endsWith('.js'))")
    cached = await page.evaluate(CACHED)
    assert "/" in cached
    assert [path for path in cached if path.startswith(("/v1", "/sign-in", "/share"))] == []
    await page.context.set_offline(True)
    await page.reload()
    await expect(page.get_by_text("Der Server von Triplane ist nicht erreichbar.")).to_be_visible()
    await page.context.set_offline(False)
    await page.get_by_role("button", name="Erneut versuchen").click()
    await expect(page.get_by_role("heading", name="Was beschäftigt dich?")).to_be_visible()


async def test_a_part_that_cannot_be_fetched_is_told_of_and_the_rest_stays(break_page: BreakPage) -> None:
    page = await break_page(service_workers="block")
    await page.route("**/assets/SettingsPage-*.js", lambda route: route.abort())
    await page.goto("/settings/appearance")
    await expect(page.get_by_text("Dieser Teil der Seite konnte nicht geladen werden.")).to_be_visible()
    await expect(page.get_by_role("link", name="Neuer Chat")).to_be_visible()
    await page.unroute_all()
    await page.get_by_role("button", name="Neu laden").click()
    await expect(page.get_by_role("heading", name="Einstellungen", exact=True)).to_be_visible()
