"""The settings, each section at both widths."""

import json

import pytest
from playwright.async_api import expect

from page_fixture import DESKTOP, PHONE, OpenPage, composer
from web_seed import call, violations

SECTIONS = ["appearance", "personal", "notifications", "data", "shares", "keys", "sessions", "usage"]

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
async def test_axe_finds_nothing_in_any_section_and_nothing_is_too_wide(
    open_page: OpenPage, width: int
) -> None:
    async with open_page("/settings/appearance", width=width, reduced_motion="reduce") as page:
        sections = page.get_by_role("navigation", name="Sections of the settings")
        for section in SECTIONS:
            await sections.locator(f'a[href="/settings/{section}"]').click()
            await expect(sections.locator("a[aria-current=page]")).to_have_attribute(
                "href", f"/settings/{section}"
            )
            await expect(page.get_by_role("heading", level=3).first).to_be_visible()
            assert await violations(page) == [], section
            assert await page.evaluate("document.documentElement.scrollWidth") == width


async def test_instructions_are_kept_on_the_server(open_page: OpenPage) -> None:
    async with open_page("/settings/personal") as page:
        await page.get_by_label("Custom instructions").fill("Be brief.")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Saved", exact=True)).to_be_visible()
        assert (await call(page, "GET", "/v1/me/settings"))["instructions"] == "Be brief."
        await call(page, "PATCH", "/v1/me/settings", {"instructions": ""})


async def test_a_theme_chosen_in_the_bar_is_kept_on_the_server(open_page: OpenPage) -> None:
    async with open_page() as page:
        await page.get_by_role("button", name="Theme: as the system").click()
        await expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
        await expect(page.locator("html")).to_have_attribute("data-theme", "light")
        await page.wait_for_function(
            "async () => (await (await fetch('/v1/me/settings')).json()).theme === 'light'"
        )
        await page.reload()
        await expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
        await call(page, "PATCH", "/v1/me/settings", {"theme": "system"})


async def test_enter_begins_a_line_where_a_person_wants_it(open_page: OpenPage) -> None:
    async with open_page("/settings/personal") as page:
        await page.get_by_role("radio", name="Ctrl-Enter sends").check()
        await page.get_by_role("link", name="New chat").click()
        await composer(page).fill("one")
        await composer(page).press("Enter")
        await expect(composer(page)).to_have_value("one\n")
        await call(page, "PATCH", "/v1/me/settings", {"send_with": "enter"})


async def test_a_file_is_imported_and_the_same_again_changes_nothing(open_page: OpenPage) -> None:
    message = {"id": "1", "role": "user", "content": "Ahoy", "created_at": "2026-01-01T00:00:00Z"}
    told = {"id": "old", "title": "Imported", "created_at": "2026-01-01T00:00:00Z", "active_leaf": "1"}
    ours = {**told, "updated_at": "2026-01-01T00:00:00Z", "messages": [message]}
    body = json.dumps({"object": "triplane.export", "version": 1, "conversations": [ours]}).encode()
    async with open_page("/settings/data") as page:
        for said in ("1 conversation, 1 message", "1 was here already"):
            await page.get_by_label("Import conversations").set_input_files(
                {"name": "export.json", "mimeType": "text/plain", "buffer": body}
            )
            await expect(page.get_by_text(said)).to_be_visible()


async def test_a_key_is_shown_once_and_revoked(open_page: OpenPage) -> None:
    async with open_page("/settings/keys") as page:
        await page.get_by_label("Name of the key").fill("script")
        await page.get_by_role("button", name="Make a key").click()
        await expect(page.get_by_text("It won’t be shown again.")).to_be_visible()
        await page.get_by_role("button", name="Revoke script").click()
        await expect(page.get_by_role("button", name="Revoke script")).to_have_count(0)


async def test_everything_is_deleted_only_after_the_words_are_typed(open_page: OpenPage) -> None:
    async with open_page("/settings/data") as page:
        await page.get_by_role("button", name="Delete everything").click()
        dialog = page.get_by_role("dialog")
        sure = dialog.get_by_role("button", name="Delete everything")
        await expect(sure).to_be_disabled()
        await dialog.get_by_role("textbox").fill("delete everything")
        await expect(sure).to_be_enabled()
        await dialog.get_by_role("button", name="Cancel").click()
        await expect(dialog).to_have_count(0)
