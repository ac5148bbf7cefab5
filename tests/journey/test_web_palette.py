"""Everything by the keyboard: the palette, shortcuts, slash commands."""

import pytest
from playwright.async_api import expect

from page_fixture import DESKTOP, PHONE, OpenPage, composer
from web_seed import conversation, violations

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
async def test_the_palette_runs_commands_and_finds_conversations(open_page: OpenPage, width: int) -> None:
    async with open_page(width=width) as page:
        await conversation(page, f"Zeppelins {width}", "Fly?", "They float.")
        await page.keyboard.press("Control+k")
        field = page.get_by_role("combobox", name="Command palette")
        await expect(field).to_be_focused()
        assert await violations(page) == []
        await field.fill(f"Zeppelins {width}")
        await expect(page.get_by_role("option")).to_have_count(1)
        await page.keyboard.press("Enter")
        await expect(page).to_have_title(f"Zeppelins {width} · Triplane")
        await page.keyboard.press("Control+k")
        await field.fill("settings")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Settings", exact=True)).to_be_visible()


async def test_a_question_mark_shows_the_keys_but_not_while_typing(open_page: OpenPage) -> None:
    async with open_page() as page:
        await expect(composer(page)).to_be_focused()
        await page.keyboard.type("?")
        await expect(composer(page)).to_have_value("?")
        await composer(page).fill("")
        await page.get_by_role("region", name="Messages").focus()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        assert await violations(page) == []
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_a_slash_shows_commands_and_a_path_is_text(open_page: OpenPage) -> None:
    async with open_page() as page:
        await composer(page).fill("/")
        await expect(page.get_by_role("listbox", name="Commands")).to_be_visible()
        await composer(page).press("ArrowDown")
        chosen = page.get_by_role("option", selected=True)
        await expect(composer(page)).to_have_attribute(
            "aria-activedescendant", str(await chosen.get_attribute("id"))
        )
        assert await violations(page) == []
        await composer(page).fill("/etc/hosts")
        await expect(page.get_by_role("listbox", name="Commands")).to_have_count(0)
        await composer(page).fill("/sett")
        await composer(page).press("Enter")
        await expect(page.get_by_role("heading", name="Settings", exact=True)).to_be_visible()
