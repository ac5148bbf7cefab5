"""What a person has beside the text: a queue, the settings of a chat, what an answer took, links to share."""

import asyncio
import re

import httpx
import pytest
from playwright.async_api import Locator, Page, Route, expect

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
    messages,
    stop,
)
from serve_process import ServeProcess
from web_seed import seeded, violations

pytestmark = pytest.mark.timeout(300)
both_widths = pytest.mark.parametrize("width", [DESKTOP, PHONE])


def queue(page: Page) -> Locator:
    return page.get_by_role("region", name="Queue", exact=True)


@both_widths
async def test_what_is_written_meanwhile_is_queued_kept_over_a_reload_and_sent_when_asked(
    open_page: OpenPage, width: int
) -> None:
    async with open_page(width=width) as page:
        await ask(page, LONG)
        await answer_longer_than(page, 0)
        for text in ("Name a river.", "Name a hill.", "Name a lake."):
            await ask(page, text)
        await expect(queue(page).get_by_role("listitem")).to_have_count(3)
        await queue(page).get_by_role("button", name="Remove queued message").last.click()
        await composer(page).fill("Half a thought")
        await queue(page).get_by_role("button", name="Edit queued message").last.click()
        await expect(composer(page)).to_have_value("Name a hill.\n\nHalf a thought")
        await composer(page).press("Enter")
        await page.reload()
        await expect(queue(page).get_by_role("listitem")).to_have_count(2)
        await expect(page.get_by_role("button", name="Stop answering")).to_be_visible()
        await stop(page)
        await expect(queue(page).get_by_text("Waiting for you")).to_be_visible()
        await expect(messages(page).get_by_text("Name a river.")).to_have_count(0)
        assert await violations(page) == []
        await queue(page).get_by_role("button", name="Send the next").click()
        await expect(messages(page).get_by_text("Name a river.")).to_be_visible()
        await expect(queue(page).get_by_role("listitem")).to_have_count(1)


async def test_the_next_is_sent_by_itself_when_an_answer_has_ended_well(
    open_page: OpenPage, served: ServeProcess
) -> None:
    headers = {"authorization": f"Bearer {served.key}"}
    async with httpx.AsyncClient(base_url=served.url, headers=headers) as client:
        conversation = (await client.post("/v1/conversations", json={})).json()["id"]
    async with open_page(f"/c/{conversation}") as page:
        await ask(page, "Answer with one word: yes.")
        await expect(page.get_by_role("button", name="Stop answering")).to_be_visible()
        await ask(page, "Name a river.")
        await expect(messages(page).get_by_text("Name a river.")).to_be_visible(timeout=ANSWER_MS)
        await expect(queue(page)).to_have_count(0)
        await stop(page)


@both_widths
async def test_an_answer_tells_what_it_took(open_page: OpenPage, width: int) -> None:
    async with open_page(width=width, reduced_motion="reduce") as page:
        await ask_and_stop(page, "Say hello.")
        opener = page.get_by_role("button", name="About this answer")
        await opener.click()
        panel = page.get_by_role("dialog", name="About this answer")
        await expect(panel.get_by_text("Tokens written")).to_be_visible()
        await expect(panel.get_by_role("definition").nth(1)).to_have_text(re.compile(r"\d"))
        assert await violations(page) == []
        await page.keyboard.press("Escape")
        await expect(panel).to_have_count(0)
        await expect(opener).to_be_focused()


@both_widths
async def test_the_model_and_the_settings_of_a_chat_are_chosen(open_page: OpenPage, width: int) -> None:
    async with open_page(width=width, reduced_motion="reduce") as page:
        await page.get_by_role("button", name=re.compile("^Model: ")).click()
        await expect(page.get_by_role("menuitemradio").first).to_be_focused()
        assert await violations(page) == []
        await page.keyboard.press("Escape")
        await composer(page).fill("Not sent yet")
        await page.get_by_role("button", name="Settings of this chat").click()
        panel = page.get_by_role("dialog", name="Settings of this chat")
        await panel.get_by_label("Instructions").fill("Answer in one sentence.")
        assert await violations(page) == []
        await panel.get_by_role("button", name="Save").click()
        await expect(composer(page)).to_have_value("Not sent yet")
        await page.get_by_role("button", name="Settings of this chat").click()
        await expect(panel.get_by_label("Instructions")).to_have_value("Answer in one sentence.")


async def test_the_settings_of_a_chat_are_changed_only_when_they_are_known_and_a_failure_is_told(
    open_page: OpenPage, served: ServeProcess
) -> None:
    path = await seeded(served, "Hello?", "Hello.")
    opener = "Settings of this chat"
    async with open_page() as page:
        is_read = asyncio.Event()

        async def hold(route: Route) -> None:
            await is_read.wait()
            await route.continue_()

        async def garble(route: Route) -> None:
            await route.fulfill(body="no JSON")

        await page.route(f"**/v1/conversations/{path.removeprefix('/c/')}", hold)
        await page.goto(path)
        await expect(composer(page)).to_be_visible()
        await expect(page.get_by_role("button", name=opener)).to_have_count(0)
        is_read.set()
        await page.get_by_role("button", name=opener).click()
        await page.unroute_all(behavior="wait")
        await page.route(f"**/v1/conversations/{path.removeprefix('/c/')}", garble)
        await page.get_by_role("dialog", name=opener).get_by_label("Instructions").fill("Be brief.")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("That didn’t work")).to_be_visible()
