"""What a person's page is filled with before a test looks at it, through the API, without a model."""

from pathlib import Path
from typing import Any

from playwright.async_api import Page

AXE = Path(__file__).parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"

_CALL = """async ({ method, path, body }) => {
    const headers = { "content-type": "application/json" };
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.status === 204 ? null : await response.json();
}"""


async def call(page: Page, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """As the page itself does it, with its cookie."""
    return await page.evaluate(_CALL, {"method": method, "path": path, "body": body})


async def conversation(page: Page, title: str, question: str, answer: str, **more: Any) -> str:
    """A conversation of one exchange; its id."""
    items = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    made = await call(page, "POST", "/v1/conversations", {"title": title, "items": items, **more})
    return str(made["id"])


async def violations(page: Page) -> list[str]:
    """What axe finds wrong on the screen as it is."""
    await page.evaluate(AXE.read_text())
    found: list[str] = await page.evaluate(
        "async () => (await axe.run()).violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target)}`)"
    )
    return found
