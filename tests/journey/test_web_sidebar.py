"""The list of conversations: found, pinned, archived, filed, selected, deleted and brought back."""

import re

import pytest
from playwright.async_api import Page, expect

from page_fixture import DESKTOP, PHONE, OpenPage, messages
from web_seed import call, conversation, imported, violations

pytestmark = pytest.mark.timeout(120)


async def _open_sidebar(page: Page, width: int) -> None:
    if width == PHONE:
        await page.get_by_role("button", name="Open sidebar").click()


async def _choose(page: Page, title: str, action: str) -> None:
    await page.get_by_role("button", name=f"Options for {title}").click()
    await page.get_by_role("menuitem", name=action, exact=True).click()


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
async def test_a_search_finds_words_in_messages_and_opens_there(open_page: OpenPage, width: int) -> None:
    async with open_page(width=width) as page:
        await conversation(
            page, f"Boats {width}", "Tell me of boats.", f"The xylophone{width} rang over the water."
        )
        await _open_sidebar(page, width)
        await page.get_by_role("searchbox", name="Search conversations").fill(f"xylophone{width}")
        hit = page.get_by_role("list", name="Search results").get_by_role("link")
        await expect(hit).to_have_count(1)
        await expect(hit.locator("mark")).to_have_text(f"xylophone{width}")
        assert await violations(page) == []
        await hit.click()
        await expect(page.locator(".pointed-at")).to_contain_text("rang over the water")
        await expect(messages(page)).to_be_visible()


async def test_a_search_hit_far_up_in_a_long_conversation_is_reached_each_time_it_is_chosen(
    open_page: OpenPage,
) -> None:
    texts = [f"Message {place}.\n\nA line.\n\nAnother." for place in range(150)]
    texts[3] = "The glockenspiel was there from early on."
    async with open_page() as page:
        await imported(page, "Long", *texts)
        await page.get_by_role("searchbox", name="Search conversations").fill("glockenspiel")
        hit = page.get_by_role("list", name="Search results").get_by_role("link")
        await hit.click()
        found = messages(page).get_by_text("The glockenspiel was there")
        await expect(found).to_be_in_viewport()
        await expect(page.locator(".pointed-at")).to_contain_text("glockenspiel")
        await page.get_by_role("button", name="Jump to the latest").click()
        await expect(found).not_to_be_in_viewport()
        await hit.click()
        await expect(found).to_be_in_viewport()


async def test_a_pin_stands_above_however_old_it_is_and_what_is_in_no_list_has_its_title(
    open_page: OpenPage,
) -> None:
    async with open_page() as page:
        old = await conversation(page, "Older than all", "How old?", "Very.")
        filed = await conversation(page, "Filed away", "Where?", "Away.")
        newer = await page.evaluate(
            """() => Promise.all(Array.from({ length: 45 }, async (_, count) => {
                const headers = { "content-type": "application/json" };
                const body = JSON.stringify({ title: `Newer ${count}` });
                const made = await fetch("/v1/conversations", { method: "POST", headers, body });
                return (await made.json()).id;
            }))"""
        )
        await call(page, "POST", "/v1/conversations/bulk", {"action": "pin", "ids": [old]})
        await call(page, "POST", "/v1/conversations/bulk", {"action": "archive", "ids": [filed]})
        await page.goto(f"/c/{filed}")
        await expect(page.get_by_role("banner").get_by_text("Filed away")).to_be_visible()
        pins = page.get_by_role("region", name="Pinned").get_by_role("link")
        await expect(pins.filter(has_text="Older than all")).to_be_visible()
        await page.goto("/")
        await call(page, "POST", "/v1/conversations/bulk", {"action": "delete", "ids": [old, filed, *newer]})


async def test_a_conversation_is_pinned_archived_deleted_and_brought_back(open_page: OpenPage) -> None:
    async with open_page() as page:
        made = await conversation(page, "Sailing to Crete", "How?", "By boat.")
        row = page.get_by_role("link", name="Sailing to Crete")
        await _choose(page, "Sailing to Crete", "Pin")
        await expect(page.get_by_role("region", name="Pinned").get_by_role("link")).to_contain_text(
            ["Sailing to Crete"]
        )
        await _choose(page, "Sailing to Crete", "Archive")
        await expect(row).to_have_count(0)
        await page.get_by_role("button", name="Archive", exact=True).click()
        await expect(row).to_be_visible()
        await _choose(page, "Sailing to Crete", "Take out of the archive")
        await page.get_by_role("button", name="Back").click()
        await expect(row).to_be_visible()
        draft = f"triplane.draft.{made}"
        await page.evaluate("(key) => localStorage.setItem(key, 'Not sent yet')", draft)
        await _choose(page, "Sailing to Crete", "Delete")
        await expect(row).to_have_count(0)
        await page.wait_for_function("(key) => localStorage.getItem(key) === null", arg=draft)
        await page.get_by_role("status").get_by_role("button", name="Undo").click()
        await expect(row).to_be_visible()
        await page.reload()
        await expect(row).to_be_visible()


async def test_a_project_holds_what_is_moved_into_it(open_page: OpenPage) -> None:
    async with open_page() as page:
        await conversation(page, "Oars and rowlocks", "What?", "Wood.")
        await page.get_by_role("button", name="New project").click()
        await page.get_by_label("Name", exact=True).fill("Harbour")
        await page.get_by_label("Instructions").fill("Answer like a sailor.")
        assert await violations(page) == []
        await page.get_by_role("button", name="Save").click()
        await _choose(page, "Oars and rowlocks", "Move to a project")
        await page.get_by_role("dialog").get_by_role("button", name="Harbour").click()
        folder = page.get_by_role("button", name=re.compile("^Harbour"))
        await expect(folder).to_contain_text("1")
        await folder.click()
        await expect(page.get_by_role("link", name="Oars and rowlocks")).to_be_visible()


async def test_several_are_selected_and_deleted_at_once(open_page: OpenPage) -> None:
    async with open_page() as page:
        for number in (1, 2):
            await conversation(page, f"Pebble {number}", "?", "!")
        await _choose(page, "Pebble 1", "Select")
        await page.get_by_role("checkbox", name="Pebble 2").check()
        bar = page.get_by_role("toolbar", name="Selection")
        await expect(bar).to_contain_text("2 selected")
        assert await violations(page) == []
        await bar.get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("link", name=re.compile("Pebble"))).to_have_count(0)
        await page.route("**/v1/conversations/bulk", lambda route: route.fulfill(body="no JSON"))
        await page.get_by_role("status").get_by_role("button", name="Undo").click()
        await expect(page.get_by_text("That didn’t work")).to_be_visible()


async def test_a_conversation_is_exported_as_markdown(open_page: OpenPage) -> None:
    async with open_page() as page:
        await conversation(page, "Knots", "Which knot?", "A bowline.")
        async with page.expect_download() as waiting:
            await _choose(page, "Knots", "Export as Markdown")
        download = await waiting.value
        assert "A bowline." in (await download.path()).read_text()
