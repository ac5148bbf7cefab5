"""A person at the page: Chromium, signed in to the whole of `triplane serve`, and what one does there."""

import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from playwright.async_api import (
    Browser,
    Error,
    Locator,
    Page,
    StorageState,
    async_playwright,
    expect,
)

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESKTOP, PHONE = 1280, 390
ANSWER_MS = 150_000
LONG = "Write a very long story about a lighthouse keeper and the sea. Use many paragraphs."


class Served(Protocol):
    """What the `served` fixture gives: where the product is, and a one-time link into it."""

    url: str
    sign_in_link: str


OpenPage = Callable[..., AbstractAsyncContextManager[Page]]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    async with async_playwright() as playwright:
        try:
            opened = await playwright.chromium.launch(executable_path=found, args=CHROMIUM_OPTIONS)
        except Error as error:
            pytest.skip(
                f"THE PAGE WAS NOT TESTED: Chromium can't be started ({error.message.splitlines()[0]})"
            )
        yield opened
        await opened.close()


@pytest.fixture(scope="session")
async def session(browser: Browser, served: Served) -> StorageState:
    """A browser's memory after it has opened the one-time link."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(served.sign_in_link)
    await expect(page.get_by_role("heading", name="What’s on your mind?")).to_be_visible()
    assert urlsplit(page.url).path == "/"
    state = await context.storage_state()
    await context.close()
    return state


@pytest.fixture
def open_page(browser: Browser, session: StorageState, served: Served) -> OpenPage:
    """Opens the page as one who is signed in. Leaving it checks that the page did nothing that it mustn't."""

    @asynccontextmanager
    async def opened(path: str = "/", width: int = DESKTOP, **options: Any) -> AsyncIterator[Page]:
        context = await browser.new_context(
            viewport={"width": width, "height": 800}, storage_state=session, base_url=served.url, **options
        )
        complaints: list[str] = []
        hosts: set[str | None] = set()
        page = await context.new_page()
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        await page.goto(path)
        yield page
        await context.close()
        assert complaints == []  # a breach of the content security policy is reported here too
        assert hosts <= {urlsplit(served.url).hostname, None}

    return opened


def composer(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message", exact=True)


def messages(page: Page) -> Locator:
    return page.get_by_role("region", name="Messages")


def current_row(page: Page) -> Locator:
    return page.get_by_role("navigation", name="Conversations").locator("a[aria-current=page]")


async def ask(page: Page, text: str) -> None:
    await composer(page).fill(text)
    await composer(page).press("Enter")


async def answer_longer_than(page: Page, length: int) -> int:
    """Wait until the last answer has more letters than that; how many it has then."""
    measure = """(length) => {
        const shown = [...document.querySelectorAll('[data-testid=answer]')].at(-1)?.innerText.length ?? 0;
        return shown > length && shown;
    }"""
    grown = await page.wait_for_function(measure, arg=length, timeout=ANSWER_MS)
    return int(await grown.json_value())


async def ended(page: Page) -> str:
    """Wait for the end of the answer that is being written; its text."""
    await expect(page.get_by_role("button", name="Copy answer").last).to_be_visible(timeout=ANSWER_MS)
    await expect(page.get_by_role("button", name="Send message")).to_be_visible(timeout=ANSWER_MS)
    return await page.get_by_test_id("answer").last.inner_text()


async def ask_and_stop(page: Page, text: str) -> str:
    """An exchange, cut short: the small model may ramble on for long. The answer's text."""
    await ask(page, text)
    await answer_longer_than(page, 0)
    return await stop(page)


async def stop(page: Page) -> str:
    """Stop the answer that is being written, unless it has ended by itself; its text."""
    await page.wait_for_function(_IS_STOPPED_OR_HAS_ENDED, timeout=ANSWER_MS)
    return await ended(page)


_IS_STOPPED_OR_HAS_ENDED = """() => {
    const named = (name) => document.querySelector(`button[aria-label="${name}"]`);
    const button = named('Stop answering');
    button?.click();
    const last = [...document.querySelectorAll('article')].at(-1);
    const isWhole = last?.querySelector('[data-testid=answer]') && last.getAttribute('aria-busy') === 'false';
    return button !== null || (isWhole && named('Send message') !== null);
}"""
"""Looking and clicking are one step of the page, so that the button can't become another one in between."""


def letters(text: str) -> str:
    """Without what Markdown makes of it: a mark such as `1.` leaves the text when it becomes a list."""
    return re.sub(r"[\W\d_]", "", text)
