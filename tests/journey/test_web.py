"""A person at the page: Chromium against the whole of `triplane serve`, with the real model."""

import re
from collections.abc import Awaitable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from page_fixture import (
    ANSWER_MS,
    DESKTOP,
    LONG,
    PHONE,
    OpenPage,
    Served,
    answer_longer_than,
    ask,
    ask_and_stop,
    composer,
    current_row,
    ended,
    messages,
    stop,
)

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"

pytestmark = pytest.mark.timeout(300)


async def test_an_answer_streams_gets_a_title_and_is_found_again(open_page: OpenPage) -> None:
    async with open_page() as page:
        await ask(page, "What is the capital of France?")
        lengths = [await answer_longer_than(page, 0)]
        while len(lengths) < 3:
            lengths.append(await answer_longer_than(page, lengths[-1]))
        assert re.fullmatch(r"/c/conv_\w+", urlsplit(page.url).path)
        text = await stop(page)  # the small model may ramble on for long
        await expect(current_row(page)).not_to_have_text("New chat", timeout=ANSWER_MS)
        title = re.compile("capital of France")  # the question's own words, or by now the model's title
        await expect(current_row(page)).to_have_text(title)
        await expect(page).to_have_title(re.compile("capital of France.* · Triplane"))
        await page.reload()
        await expect(page.get_by_test_id("answer")).to_have_text(text, use_inner_text=True)
        await expect(messages(page).get_by_text("What is the capital of France?")).to_be_visible()
        await expect(current_row(page)).to_have_text(title)


async def test_stop_ends_the_answer_and_keeps_what_was_shown(open_page: OpenPage) -> None:
    async with open_page() as page:
        await ask(page, LONG)
        shown = await answer_longer_than(page, 30)
        await page.keyboard.press("Escape")
        await expect(page.get_by_test_id("status")).to_contain_text("You stopped this answer")
        kept = await page.get_by_test_id("answer").inner_text()
        assert len(kept) >= shown
        await page.reload()
        await expect(page.get_by_test_id("answer")).to_have_text(kept, use_inner_text=True)
        await expect(page.get_by_test_id("status")).to_contain_text("You stopped this answer")


async def test_a_conversation_is_renamed_and_deleted(open_page: OpenPage) -> None:
    async with open_page() as page:
        await ask_and_stop(page, "Say hello.")
        await expect(current_row(page)).not_to_have_text("New chat", timeout=ANSWER_MS)
        await (
            page.get_by_role("listitem")
            .filter(has=page.locator("a[aria-current=page]"))
            .get_by_role("button")
            .click()
        )
        await page.get_by_role("menuitem", name="Rename").click()
        await page.keyboard.type("Greetings from the lighthouse")
        await page.keyboard.press("Enter")
        await expect(page).to_have_title("Greetings from the lighthouse · Triplane")
        await page.reload()
        await expect(current_row(page)).to_have_text("Greetings from the lighthouse")
        await page.get_by_role("button", name="Options for Greetings from the lighthouse").click()
        await page.get_by_role("menuitem", name="Delete").click()
        await expect(page.get_by_role("link", name="Greetings from the lighthouse")).to_have_count(0)
        await page.wait_for_url("/")
        await page.reload()
        await expect(page.get_by_role("link", name="New chat")).to_be_visible()
        await expect(page.get_by_role("link", name="Greetings from the lighthouse")).to_have_count(0)


async def test_the_keyboard_alone_is_enough(open_page: OpenPage) -> None:
    async with open_page() as page:
        await expect(composer(page)).to_be_focused()
        await page.keyboard.type("Say yes.")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("Then say no.")
        await page.keyboard.press("Enter")
        await answer_longer_than(page, 0)
        await page.keyboard.press("Escape")
        await ended(page)
        await expect(messages(page).get_by_text("Say yes.\nThen say no.")).to_be_visible()
        await page.reload()
        await expect(page.get_by_test_id("answer")).to_be_visible()
        await page.get_by_role("link", name="Skip to the message box").focus()
        await page.keyboard.press("Enter")
        await page.keyboard.type("x")
        await expect(composer(page)).to_have_value("x")


async def test_a_draft_survives_a_reload(open_page: OpenPage) -> None:
    async with open_page() as page:
        await composer(page).fill("not sent yet")
        await page.reload()
        await expect(composer(page)).to_have_value("not sent yet")


async def test_a_phone_has_it_all_behind_a_drawer(open_page: OpenPage) -> None:
    async with open_page(width=PHONE) as page:
        await ask_and_stop(page, "Say hello.")
        assert await page.evaluate("document.documentElement.scrollWidth") == PHONE
        await page.get_by_role("button", name="Open sidebar").click()
        await expect(current_row(page)).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Open sidebar")).to_be_focused()
        await page.get_by_role("button", name="Open sidebar").click()
        await page.get_by_role("complementary").get_by_role("link", name="New chat").first.click()
        await expect(page.get_by_role("heading", name="What’s on your mind?")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
async def test_axe_finds_nothing(open_page: OpenPage, scheme: str, width: int) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: run npm ci in web/")
    async with open_page(width=width, color_scheme=scheme, reduced_motion="reduce") as page:
        await expect(page.get_by_role("heading", name="What’s on your mind?")).to_be_visible()
        assert await _violations(page) == []
        await ask_and_stop(page, "Say hello.")
        assert await _violations(page) == []


async def _violations(page: Page) -> list[str]:
    await page.evaluate(AXE.read_text())
    found: Awaitable[list[str]] = page.evaluate(
        "async () => (await axe.run()).violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target)}`)"
    )
    return await found


async def test_whoever_is_not_signed_in_is_told_how_to(browser: Browser, served: Served) -> None:
    page = await browser.new_page()
    await page.goto(served.url)
    await expect(page.get_by_role("heading", name="Welcome to Triplane")).to_be_visible()
    await expect(page.get_by_text("triplane sign-in-link")).to_be_visible()
    await page.close()
