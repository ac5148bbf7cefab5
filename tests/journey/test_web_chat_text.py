"""How an answer is shown: formulas, diagrams, code, tables, pictures, sources; and a long conversation."""

import pytest
from playwright.async_api import expect

from page_fixture import DESKTOP, PHONE, OpenPage, messages
from serve_process import ServeProcess
from web_seed import ANSWER, seeded, violations

pytestmark = pytest.mark.timeout(120)
both_widths = pytest.mark.parametrize("width", [DESKTOP, PHONE])


@both_widths
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_formulas_diagrams_tables_and_pictures_are_shown_and_nothing_is_fetched_elsewhere(
    open_page: OpenPage, served: ServeProcess, width: int, scheme: str
) -> None:
    path = await seeded(served, "Show me everything.", ANSWER)
    async with open_page(path, width=width, color_scheme=scheme, reduced_motion="reduce") as page:
        answer = page.get_by_test_id("answer")
        await expect(answer.locator(".katex")).to_have_count(3)
        await expect(answer).to_contain_text("it costs $5, not $10")
        drawn = answer.get_by_role("img", name="Diagram (flowchart)")
        await expect(drawn).to_be_visible()
        assert await drawn.evaluate("(image) => image.naturalWidth") > 100
        await expect(answer.get_by_text("Can’t be drawn")).to_be_visible()
        await expect(answer.locator(".hljs-keyword").first).to_be_visible()
        await expect(answer.locator("img[src*='pictures.example']")).to_have_count(0)
        elsewhere = answer.get_by_role("link", name="a cat")
        await expect(elsewhere).to_have_attribute("rel", "noopener noreferrer nofollow")
        await answer.get_by_role("link", name="1", exact=True).click()
        await expect(answer.get_by_text("Its source.")).to_be_in_viewport()
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        assert await violations(page) == []


async def test_a_table_is_copied_as_csv_and_code_is_wrapped(
    open_page: OpenPage, served: ServeProcess
) -> None:
    path = await seeded(served, "Show me everything.", ANSWER)
    async with open_page(path, permissions=["clipboard-read", "clipboard-write"]) as page:
        await page.get_by_role("button", name="Copy as CSV").click()
        assert await page.evaluate("navigator.clipboard.readText()") == 'Planet,Note\r\nMars,"red, ""dusty"""'
        wrap = page.get_by_role("button", name="Wrap").first
        await wrap.click()
        await expect(wrap).to_have_attribute("aria-pressed", "true")
        await page.get_by_role("button", name="Source", exact=True).click()
        await expect(page.get_by_text("A[Browser] --> B[Gateway]")).to_be_visible()


@both_widths
async def test_a_long_conversation_opens_at_its_end_and_is_read_upwards_in_place(
    open_page: OpenPage, served: ServeProcess, width: int
) -> None:
    path = await seeded(served, *(f"Message {place}.\n\nA line.\n\nAnother." for place in range(100)))
    async with open_page(path, width=width) as page:
        await expect(messages(page).get_by_text("Message 99.")).to_be_in_viewport()
        assert await messages(page).get_by_role("article").count() < 100
        await messages(page).focus()
        for _ in range(60):
            if await messages(page).get_by_text("Message 0.").count():
                break
            await page.keyboard.press("Home")
            await page.evaluate("new Promise(requestAnimationFrame)")
        await page.keyboard.press("Home")
        await expect(messages(page).get_by_text("Message 0.")).to_be_in_viewport()
        await expect(messages(page).get_by_role("article")).to_have_count(100)
        await page.get_by_role("button", name="Jump to the latest").click()
        await expect(messages(page).get_by_text("Message 99.")).to_be_in_viewport()
