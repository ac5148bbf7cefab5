"""The page in its languages."""

import pytest
from playwright.async_api import expect

from page_fixture import DESKTOP, PHONE, OpenPage
from web_seed import call, violations

HEADINGS = {
    "de-CH": ("de", "ltr", "Was beschäftigt dich?"),
    "ja-JP": ("ja", "ltr", "何を考えていますか？"),
    "ar-EG": ("ar", "rtl", "ما الذي يشغل بالك؟"),
}

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("locale", HEADINGS)
async def test_the_page_speaks_the_browsers_language(open_page: OpenPage, locale: str, width: int) -> None:
    language, direction, heading = HEADINGS[locale]
    async with open_page(width=width, locale=locale) as page:
        await expect(page.get_by_role("heading", name=heading)).to_be_visible()
        assert await page.evaluate("[document.documentElement.lang, document.documentElement.dir]") == [
            language,
            direction,
        ]
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        assert await violations(page) == []


async def test_arabic_has_the_sidebar_on_the_right(open_page: OpenPage) -> None:
    async with open_page(locale="ar-EG") as page:
        box = await page.get_by_role("complementary").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] == DESKTOP


async def test_a_chosen_language_holds_on_every_device(open_page: OpenPage) -> None:
    async with open_page("/settings/appearance") as page:
        await page.get_by_role("radio", name="Français").check()
        await expect(page.get_by_role("heading", name="Paramètres", exact=True)).to_be_visible()
        await page.wait_for_function(
            "async () => (await (await fetch('/v1/me/settings')).json()).language === 'fr'"
        )
    async with open_page() as page:
        await expect(page.get_by_role("heading", name="Qu’avez-vous en tête ?")).to_be_visible()
        await call(page, "PATCH", "/v1/me/settings", {"language": None})
