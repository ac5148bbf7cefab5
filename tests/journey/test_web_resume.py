"""What a person sees when the connection, the page or the server goes away in the middle of an answer.

The text on the page only ever grows, to the same end as the stored answer.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, StorageState, expect

from page_fixture import (
    LONG,
    Served,
    answer_longer_than,
    ask,
    ended,
)
from serve_process import ServeProcess, data_folder, serving

pytestmark = pytest.mark.timeout(300)

LOADED = -1
WATCH_GROWTH = """
window.grew(-1);
const count = () => {
    const answer = [...document.querySelectorAll('[data-testid=answer]')].at(-1);
    const letters = answer ? answer.textContent.replace(/[^\\p{L}]/gu, '').length : 0;
    if (letters !== window.lettersNow) window.grew(window.lettersNow = letters);
};
new MutationObserver(count).observe(document, {subtree: true, childList: true, characterData: true});
"""
"""Letters only: a Markdown mark, such as `1.`, may leave the text when it becomes a list."""


class Watched:
    """A page, and how many letters its last answer has had, at each change; `LOADED` stands for a load."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.lengths: list[int] = []

    async def begin(self) -> None:
        await self.page.expose_function("grew", self.take)
        await self.page.add_init_script(WATCH_GROWTH)

    def take(self, letters: int) -> None:
        self.lengths.append(letters)

    def only_grew(self) -> bool:
        return all(before <= after or after == LOADED for before, after in itertools.pairwise(self.lengths))


@asynccontextmanager
async def watched(context: BrowserContext, address: str) -> AsyncIterator[Watched]:
    page = await context.new_page()
    seen = Watched(page)
    await seen.begin()
    await page.goto(address)
    yield seen
    assert seen.only_grew(), seen.lengths


@pytest.fixture
async def context(browser: Browser, session: StorageState, served: Served) -> AsyncIterator[BrowserContext]:
    made = await browser.new_context(storage_state=session, base_url=served.url)
    yield made
    await made.close()


async def stop_and_read(page: Page) -> str:
    await page.get_by_role("button", name="Stop answering").click()
    await expect(page.get_by_test_id("status")).to_contain_text("You stopped this answer")
    return await page.get_by_test_id("answer").inner_text()


async def test_a_page_that_is_reloaded_in_mid_answer_goes_on_with_it(context: BrowserContext) -> None:
    async with watched(context, "/") as seen:
        page = seen.page
        await ask(page, LONG)
        before = await answer_longer_than(page, 40)
        await page.reload()
        after = await answer_longer_than(page, before)
        await answer_longer_than(page, after)
        kept = await stop_and_read(page)
        await page.reload()
        await expect(page.get_by_test_id("answer")).to_have_text(kept, use_inner_text=True)


async def test_a_page_that_was_closed_is_opened_again_and_goes_on(context: BrowserContext) -> None:
    async with watched(context, "/") as first:
        await ask(first.page, LONG)
        before = await answer_longer_than(first.page, 40)
        address = first.page.url
        await first.page.close()
    async with watched(context, address) as again:
        await answer_longer_than(again.page, before + 40)
        await stop_and_read(again.page)


async def test_two_tabs_show_the_same_text(context: BrowserContext) -> None:
    async with watched(context, "/") as one:
        await ask(one.page, LONG)
        await answer_longer_than(one.page, 20)
        async with watched(context, one.page.url) as other:
            await answer_longer_than(other.page, await answer_longer_than(one.page, 60))
            kept = await stop_and_read(other.page)
            await expect(one.page.get_by_test_id("status")).to_contain_text("You stopped this answer")
            assert await one.page.get_by_test_id("answer").inner_text() == kept


async def test_an_answer_goes_on_after_the_network_was_away(context: BrowserContext) -> None:
    async with watched(context, "/") as seen:
        page = seen.page
        await ask(page, LONG)
        await answer_longer_than(page, 40)
        await context.set_offline(True)
        await expect(page.get_by_text("You’re offline.")).to_be_visible()
        await page.wait_for_timeout(4000)
        frozen = len(await page.get_by_test_id("answer").inner_text())
        await context.set_offline(False)
        await answer_longer_than(page, frozen + 40)
        kept = await stop_and_read(page)
        await page.reload()
        await expect(page.get_by_test_id("answer")).to_have_text(kept, use_inner_text=True)


async def test_an_answer_goes_on_after_the_whole_server_was_restarted(browser: Browser) -> None:
    with data_folder() as folder, serving(folder) as server:
        port = str(urlsplit(server.url).port)
        context = await browser.new_context(base_url=server.url)
        async with watched(context, server.sign_in_link) as seen:
            page = seen.page
            await ask(page, LONG)
            await answer_longer_than(page, 40)
            await asyncio.to_thread(server.interrupt)
            await expect(page.get_by_text("Reconnecting…")).to_be_visible()
            before = len(await page.get_by_test_id("answer").inner_text())
            again = await asyncio.to_thread(ServeProcess, folder, {"TRIPLANE_PORT": port})
            try:
                await answer_longer_than(page, before + 40)
                await page.keyboard.press("Escape")
                kept = await ended(page)
                await page.reload()
                await expect(page.get_by_test_id("answer")).to_have_text(kept, use_inner_text=True)
            finally:
                await asyncio.to_thread(again.close)
        await context.close()
