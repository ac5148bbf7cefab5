"""One person at two pages: what is done at one is seen at the other, without a reload."""

import re
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Locator, Page, Request, expect

from page_fixture import (
    ANSWER_MS,
    DESKTOP,
    LONG,
    PHONE,
    OpenPage,
    answer_longer_than,
    ask,
    ask_and_stop,
    composer,
    current_row,
    messages,
    stop,
)

pytestmark = pytest.mark.timeout(300)

SEEN = """(seen) => {
    Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => seen});
    document.dispatchEvent(new Event('visibilitychange'));
}"""
"""What a browser does when its tab goes behind another and comes back; a headless one never does it."""


def row_of(page: Page, path: str) -> Locator:
    """The row of the conversation at this address."""
    return page.get_by_role("navigation", name="Conversations").locator(f"a[href='{path}']")


async def path_of(page: Page) -> str:
    await expect(page).to_have_url(re.compile("/c/conv_"))
    return urlsplit(page.url).path


async def show_sidebar(page: Page, width: int) -> None:
    if width == PHONE:
        await page.get_by_role("button", name="Open sidebar").click()


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
async def test_the_sidebar_of_another_device_follows(open_page: OpenPage, width: int) -> None:
    async with open_page() as one, open_page(width=width) as other:
        await show_sidebar(other, width)
        await ask(one, LONG)
        row = row_of(other, await path_of(one))
        await expect(row.get_by_role("img", name="Answering")).to_be_visible()
        await expect(row).to_contain_text("lighthouse")
        assert await rows_above(row) == 0
        await answer_longer_than(one, 0)
        await stop(one)
        await expect(row.get_by_role("img", name="Answering")).to_have_count(0)
        await current_row(one).hover()
        await one.get_by_role("button", name=re.compile("^Options for .*lighthouse")).first.click()
        await one.get_by_role("menuitem", name="Rename").click()
        await one.keyboard.type("The keeper")
        await one.keyboard.press("Enter")
        await expect(row).to_have_text("The keeper")
        await one.get_by_role("button", name="Options for The keeper").click()
        await one.get_by_role("menuitem", name="Delete").click()
        await expect(row).to_have_count(0)


async def rows_above(row: Locator) -> int:
    above: int = await row.evaluate(
        "row => [...row.closest('nav').querySelectorAll('a[href]')].findIndex(other => other === row)"
    )
    return above


async def test_an_answer_brings_its_conversation_to_the_front_everywhere(open_page: OpenPage) -> None:
    async with open_page() as one, open_page() as other:
        await ask_and_stop(one, "Say hello.")
        older = await path_of(one)
        await one.get_by_role("link", name="New chat").first.click()
        await ask_and_stop(one, "Say good night.")
        newer = await path_of(one)
        await expect(row_of(other, newer)).to_be_visible()
        assert await rows_above(row_of(other, newer)) < await rows_above(row_of(other, older))
        await row_of(one, older).click()
        await ask_and_stop(one, "And again.")
        first = other.get_by_role("navigation", name="Conversations").get_by_role("link").first
        await expect(first).to_have_attribute("href", older)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
async def test_a_conversation_that_is_open_twice_is_live_at_both(open_page: OpenPage, width: int) -> None:
    async with open_page() as one:
        await ask_and_stop(one, "Say hello.")
        async with open_page(await path_of(one), width=width) as other:
            await expect(other.get_by_test_id("answer")).to_have_count(1)
            await composer(other).fill("A draft of mine")
            await ask(one, LONG)
            await expect(messages(other).get_by_text(LONG)).to_be_visible()
            await expect(other.get_by_test_id("answer")).to_have_count(2)
            await answer_longer_than(other, await answer_longer_than(other, 0))
            kept = await stop(other)
            await expect(one.get_by_test_id("answer").last).to_have_text(kept, use_inner_text=True)

            await one.get_by_role("button", name="Continue").click()
            await answer_longer_than(other, len(kept) + 40)
            kept = await stop(one)
            await expect(other.get_by_test_id("answer").last).to_have_text(kept, use_inner_text=True)

            await one.get_by_role("button", name="Answer again").last.click()
            await expect(one.get_by_test_id("answer").last).not_to_have_text(kept, use_inner_text=True)
            await answer_longer_than(one, 40)
            again = await stop(one)
            await expect(other.get_by_test_id("answer").last).to_have_text(again, use_inner_text=True)
            await expect(other.get_by_role("group", name="Versions").get_by_text("2/2")).to_be_visible()
            await one.get_by_role("button", name="Earlier version").click()
            await expect(other.get_by_test_id("answer").last).to_have_text(kept, use_inner_text=True)
            await expect(composer(other)).to_have_value("A draft of mine")


async def test_a_page_that_was_out_of_sight_goes_on_from_where_it_was(open_page: OpenPage) -> None:
    async with open_page() as one, open_page() as other:
        places: list[str | None] = []

        def note(request: Request) -> None:
            if urlsplit(request.url).path == "/v1/events":
                places.append(request.headers.get("last-event-id"))

        other.on("request", note)
        await ask_and_stop(one, "Say hello.")
        known = await path_of(one)
        await expect(row_of(other, known)).to_be_visible()
        await other.evaluate(SEEN, "hidden")
        await one.get_by_role("link", name="New chat").first.click()
        await ask_and_stop(one, "Say good night.")
        missed = await path_of(one)
        await expect(row_of(one, missed)).to_be_visible(timeout=ANSWER_MS)
        await expect(row_of(other, missed)).to_have_count(0)
        await other.evaluate(SEEN, "visible")
        await expect(row_of(other, missed)).to_be_visible()
        assert places[-1]
