"""What a person does about an answer: go on with it, have it given again, ask otherwise, stop it."""

import re
from typing import Any

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

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
    ended,
    letters,
    messages,
    stop,
)
from serve_process import ServeProcess

pytestmark = pytest.mark.timeout(300)
both_widths = pytest.mark.parametrize("width", [DESKTOP, PHONE])

ENGINE_STREAMS = 4


def answers(page: Page) -> Locator:
    return page.get_by_test_id("answer")


def status(page: Page) -> Locator:
    return page.get_by_test_id("status")


def version(page: Page, number: str) -> Locator:
    """The mark of a message that has versions."""
    return page.get_by_role("group", name="Versions").get_by_text(number, exact=True)


async def begin_turns(served: ServeProcess, count: int, **fields: Any) -> list[dict[str, Any]]:
    """Turns that another program begins for the same person, each in a conversation of its own."""
    begun = []
    async with httpx.AsyncClient(
        base_url=served.url, headers={"authorization": f"Bearer {served.key}"}
    ) as client:
        for _ in range(count):
            conversation = (await client.post("/v1/conversations", json={})).json()["id"]
            asked = {
                "model": (await client.get("/v1/models")).json()["data"][0]["id"],
                "messages": [{"role": "user", "content": LONG}],
                "conversation_id": conversation,
                **fields,
            }
            answer = await client.post("/v1/chat/completions", json=asked)
            assert answer.is_success, answer.text
            begun.append(answer.json())
    return begun


async def stop_turns(served: ServeProcess, turns: list[dict[str, Any]]) -> None:
    async with httpx.AsyncClient(
        base_url=served.url, headers={"authorization": f"Bearer {served.key}"}
    ) as client:
        for turn in turns:
            await client.post(f"/v1/turns/{turn['id']}/stop")


@both_widths
async def test_a_stopped_answer_is_continued_where_it_stands(open_page: OpenPage, width: int) -> None:
    async with open_page(width=width) as page:
        await ask(page, LONG)
        await answer_longer_than(page, 60)
        kept = await stop(page)
        await page.get_by_role("button", name="Continue").click()
        await answer_longer_than(page, len(kept) + 60)
        whole = await stop(page)
        assert letters(whole).startswith(letters(kept))
        await expect(answers(page)).to_have_count(1)
        await page.reload()
        await expect(answers(page)).to_have_text(whole, use_inner_text=True)
        await expect(page.get_by_role("button", name="Continue")).to_be_visible()


async def test_an_answer_that_reached_its_length_is_continued(
    open_page: OpenPage, served: ServeProcess
) -> None:
    [short] = await begin_turns(served, 1, max_tokens=8)
    async with open_page(f"/c/{short['conversation_id']}") as page:
        await expect(status(page)).to_contain_text("This answer reached its length limit")
        kept = await answers(page).inner_text()
        await page.get_by_role("button", name="Continue").click()
        await answer_longer_than(page, len(kept))
        assert letters(await ended(page)).startswith(letters(kept))
        await expect(status(page)).to_contain_text("This answer reached its length limit")


@both_widths
async def test_another_answer_stands_beside_the_first(open_page: OpenPage, width: int) -> None:
    async with open_page(width=width) as page:
        await ask(page, LONG)
        await answer_longer_than(page, 40)
        first = await stop(page)
        await page.get_by_role("button", name="Answer again").click()
        await expect(answers(page)).not_to_have_text(first, use_inner_text=True)
        await answer_longer_than(page, 40)
        second = await stop(page)
        await expect(version(page, "2/2")).to_be_visible()
        await expect(answers(page)).to_have_count(1)
        await page.get_by_role("button", name="Earlier version").click()
        await expect(version(page, "1/2")).to_be_visible()
        await expect(answers(page)).to_have_text(first, use_inner_text=True)
        await page.reload()
        await expect(answers(page)).to_have_text(first, use_inner_text=True)
        await page.get_by_role("button", name="Later version").click()
        await expect(answers(page)).to_have_text(second, use_inner_text=True)
        assert await page.evaluate("document.documentElement.scrollWidth") == width


@both_widths
async def test_a_question_is_asked_otherwise_and_the_first_one_stays(open_page: OpenPage, width: int) -> None:
    async with open_page(width=width, has_touch=width == PHONE) as page:
        await composer(page).fill("Name a river.")
        await page.get_by_role("button", name="Send message").click()
        await answer_longer_than(page, 0)
        first = await stop(page)
        await messages(page).get_by_text("Name a river.").hover()
        await page.get_by_role("button", name="Edit message").click()
        await page.get_by_role("textbox", name="Edit message").fill("Name a mountain.")
        await page.get_by_role("button", name="Send", exact=True).click()
        await expect(messages(page).get_by_text("Name a mountain.")).to_be_visible()
        await expect(messages(page).get_by_text("Name a river.")).to_have_count(0)
        await answer_longer_than(page, 0)
        second = await stop(page)
        await page.reload()
        await expect(answers(page)).to_have_text(second, use_inner_text=True)
        await expect(version(page, "2/2")).to_be_visible()
        await page.get_by_role("button", name="Earlier version").click()
        await expect(messages(page).get_by_text("Name a river.")).to_be_visible()
        await expect(answers(page)).to_have_text(first, use_inner_text=True)
        await expect(version(page, "1/2")).to_be_visible()


async def test_the_keyboard_alone_walks_the_versions(open_page: OpenPage) -> None:
    async with open_page() as page:
        first = await ask_and_stop(page, "Name a river.")
        await page.get_by_role("button", name="Answer again").focus()
        await page.keyboard.press("Enter")
        await expect(version(page, "2/2")).to_have_count(0)  # while it is written
        await answer_longer_than(page, 0)
        await page.keyboard.press("Escape")
        await ended(page)
        await expect(version(page, "2/2")).to_be_visible()
        await page.get_by_role("region", name="Messages").focus()
        earlier = page.get_by_role("button", name="Earlier version")
        for _ in range(10):
            if await earlier.evaluate("button => button === document.activeElement"):
                break
            await page.keyboard.press("Tab")
        await expect(earlier).to_be_focused()
        assert await earlier.evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
        await page.keyboard.press("Enter")
        await expect(answers(page)).to_have_text(first, use_inner_text=True)
        await expect(earlier).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Later version")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(version(page, "2/2")).to_be_visible()
        await page.keyboard.press("ArrowLeft")
        await expect(version(page, "1/2")).to_be_visible()


async def test_an_answer_is_stopped_before_its_first_word(open_page: OpenPage, served: ServeProcess) -> None:
    busy = await begin_turns(served, ENGINE_STREAMS, background=True)
    try:
        async with open_page() as page:
            await ask(page, "Say hello.")
            await expect(page.get_by_role("button", name="Stop answering")).to_be_visible()
            await page.keyboard.press("Escape")
            await expect(status(page)).to_have_text("You stopped this answer", timeout=ANSWER_MS)
            await expect(answers(page)).to_have_text("")
            await page.reload()
            await expect(status(page)).to_have_text("You stopped this answer")
            await expect(messages(page).get_by_text("Say hello.")).to_be_visible()
            await stop_turns(served, busy)
            await page.get_by_role("button", name="Answer again").click()
            await answer_longer_than(page, 0)
            await stop(page)
    finally:
        await stop_turns(served, busy)


async def test_a_stop_keeps_every_word_that_was_shown(open_page: OpenPage) -> None:
    async with open_page(width=PHONE) as page:
        await ask(page, LONG)
        await answer_longer_than(page, 30)
        shown = await answers(page).inner_text()
        await page.get_by_role("button", name="Stop answering").click()
        await expect(status(page)).to_contain_text("You stopped this answer")
        kept = await answers(page).inner_text()
        assert letters(kept).startswith(letters(shown))
        assert re.search(r"\w", kept)


async def test_many_answers_at_once_leave_the_page_at_hand(open_page: OpenPage) -> None:
    """A browser has six connections to a server, and answers that nobody looks at don't take them all."""
    async with open_page() as page:
        for count in range(1, 8):
            await page.get_by_role("link", name="New chat").first.click()
            await ask(page, f"{LONG} This is story {count}.")
            await expect(page.get_by_role("img", name="Answering")).to_have_count(count)
        await page.keyboard.press("Escape")
        await expect(status(page)).to_contain_text("You stopped this answer")
        rows = page.get_by_role("listitem").filter(has=page.get_by_role("img", name="Answering"))
        while await rows.count():
            await rows.last.get_by_role("link").click()
            await expect(page.get_by_role("button", name="Stop answering")).to_be_visible()
            await expect(messages(page).get_by_text("This is story")).to_be_visible()
            before = await rows.count()
            await page.get_by_role("button", name="Stop answering").click()
            await expect(status(page)).to_contain_text("You stopped this answer")
            await expect(rows).to_have_count(before - 1)
