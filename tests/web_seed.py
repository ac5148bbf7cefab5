"""What a person's page is filled with before a test looks at it, through the API, without a model."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page

from serve_process import ServeProcess

AXE = Path(__file__).parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"

ANSWER = """Inline \\(e^{i\\pi}+1=0\\) and $a^2+b^2=c^2$; it costs $5, not $10.

\\[
\\int_0^1 x\\,dx = \\frac{1}{2}
\\]

| Planet | Note |
|---|---|
| Mars | red, "dusty" |

```python
def double(number: int) -> int:
    return number * 2
```

```mermaid
flowchart LR
  A[Browser] --> B[Gateway]
```

```mermaid
flowchart nonsense ->
```

A claim[^1], and ![a cat](https://pictures.example/cat.png) from elsewhere.

[^1]: Its source.
"""
"""What an answer may have: formulas, a table, code, diagrams, a picture, a footnote."""

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


async def imported(page: Page, title: str, *texts: str) -> None:
    """A conversation of any length, question and answer in turns."""
    at = "2026-01-01T00:00:00Z"
    messages: list[dict[str, Any]] = [
        {
            "id": f"{place}",
            "parent_id": f"{place - 1}" if place else None,
            "role": "user" if place % 2 == 0 else "assistant",
            "content": text,
            "created_at": at,
        }
        for place, text in enumerate(texts)
    ]
    told = {
        "id": title,
        "title": title,
        "created_at": at,
        "updated_at": at,
        "active_leaf": messages[-1]["id"],
    }
    body = {
        "object": "triplane.export",
        "version": 1,
        "conversations": [{**told, "messages": messages}],
    }
    report = await call(page, "POST", "/v1/import", body)
    assert report["conversations"] == 1, report


async def seeded(served: ServeProcess, *texts: str) -> str:
    """The path of a conversation that another program has written, question and answer in turns."""
    items = [
        {"type": "message", "role": "user" if place % 2 == 0 else "assistant", "content": text}
        for place, text in enumerate(texts)
    ]
    headers = {"authorization": f"Bearer {served.key}"}
    async with httpx.AsyncClient(base_url=served.url, headers=headers) as client:
        made = await client.post("/v1/conversations", json={"title": "Seeded", "items": items})
        assert made.is_success, made.text
    return f"/c/{made.json()['id']}"


async def violations(page: Page) -> list[str]:
    """What axe finds wrong on the screen as it is; the frame that draws diagrams isn't on it."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: run npm ci in web/")
    await page.evaluate(AXE.read_text())
    found: list[str] = await page.evaluate(
        "async () => (await axe.run({exclude: ['.drawing-frame']})).violations"
        ".map((v) => `${v.id}: ${v.nodes.map((n) => n.target)}`)"
    )
    return found
