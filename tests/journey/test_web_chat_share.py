"""Sharing a conversation by a link that anyone can read, and a chat that leaves no trace."""

import re
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, expect

from page_fixture import DESKTOP, PHONE, OpenPage, Served, ask_and_stop, messages
from serve_process import ServeProcess
from web_seed import ANSWER, seeded, violations

pytestmark = pytest.mark.timeout(120)
both_widths = pytest.mark.parametrize("width", [DESKTOP, PHONE])


@both_widths
async def test_a_shared_conversation_is_read_without_sign_in_until_it_is_revoked(
    open_page: OpenPage, browser: Browser, served: ServeProcess, width: int
) -> None:
    path = await seeded(served, "Show me everything.", ANSWER)
    async with open_page(path, width=width, reduced_motion="reduce") as page:
        await page.get_by_role("button", name="Share").click()
        dialog = page.get_by_role("dialog", name="Share this conversation")
        await dialog.get_by_role("button", name="Make a link").click()
        link = await dialog.get_by_role("textbox", name="Link").input_value()
        assert await violations(page) == []

        stranger = await browser.new_page(viewport={"width": width, "height": 800})
        await stranger.goto(f"{served.url}{urlsplit(link).path}")
        await expect(stranger.get_by_role("heading", name="Seeded")).to_be_visible()
        await expect(stranger.get_by_text("Show me everything.")).to_be_visible()
        await expect(stranger.locator(".katex").first).to_be_visible()
        assert await stranger.evaluate("document.documentElement.scrollWidth") == width
        assert await violations(stranger) == []

        await dialog.get_by_role("button", name="Revoke link").click()
        await expect(dialog.get_by_role("listitem")).to_have_count(0)
        await stranger.reload()
        await expect(stranger.get_by_text("This link doesn’t lead anywhere any more.")).to_be_visible()
        await stranger.close()


@both_widths
async def test_a_temporary_chat_is_in_no_list(open_page: OpenPage, served: Served, width: int) -> None:
    async with open_page(width=width) as page:
        toggle = page.get_by_role("button", name="Temporary")
        await toggle.click()
        await expect(toggle).to_have_attribute("aria-pressed", "true")
        await ask_and_stop(page, "Say hello.")
        await expect(page).to_have_url(re.compile("/c/conv_"))
        await expect(page.get_by_role("banner").get_by_text("Temporary")).to_be_visible()
        row = page.get_by_role("navigation", name="Conversations").locator(
            f"a[href='{urlsplit(page.url).path}']"
        )
        await expect(row).to_have_count(0)  # what its turn told hasn't put it there
        await page.reload()
        await expect(messages(page).get_by_text("Say hello.").first).to_be_visible()
        await expect(row).to_have_count(0)
