"""The page in Chromium: a conversation of 2,000 messages, an answer of 20,000 tokens at 200 a second.

Times are of the page's main thread; the server and the browser share the machine's cores.

python -m bench.web [--messages N] [--tokens N] [--rate N]
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import msgspec
from playwright.async_api import Browser, CDPSession, Page, async_playwright

from bench.stack import Stack, running_stack
from bench.web_answer_engine import MODEL, running_web_answer_engine

RESULTS = Path(__file__).with_name("results")
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-precise-memory-info"]
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_OPENINGS = 5
_SEND_MS = 600_000
_CLIMB_S = 120.0

_WATCH = """
window.seen = {longTasks: [], gaps: [], firstAnswer: null};
new PerformanceObserver((list) => list.getEntries().forEach((e) => seen.longTasks.push(e.duration)))
    .observe({entryTypes: ['longtask']});
let last = performance.now();
const frame = (now) => { seen.gaps.push(now - last); last = now; requestAnimationFrame(frame); };
requestAnimationFrame(frame);
new MutationObserver(() => {
    if (seen.firstAnswer === null && document.querySelector('[data-testid=answer] section'))
        requestAnimationFrame(() => setTimeout(() => { seen.firstAnswer ??= performance.now(); }));
}).observe(document, {subtree: true, childList: true});
"""
_SHOWN = "() => [...document.querySelectorAll('[data-testid=answer]')].at(-1)?.textContent.length ?? 0"

_INSERT = """
INSERT INTO messages (tenant_id, id, conversation_id, seq, parent_id, role, status, content_json)
SELECT c.tenant_id, 'msg_' || md5(c.id || n), c.id, n,
    CASE WHEN n > 1 THEN 'msg_' || md5(c.id || (n - 1)) END,
    CASE WHEN n % 2 = 1 THEN 'user' ELSE 'assistant' END, 'complete',
    to_json(CASE WHEN n % 2 = 1 THEN 'Question ' || n || ' of many.' ELSE repeat($3, 3) END)
FROM conversations c, generate_series(1, $2) n WHERE c.id = $1"""
_SHOW = """
UPDATE conversations SET last_seq = $2::bigint, active_leaf = 'msg_' || md5(id || $2::bigint) WHERE id = $1"""
_ANSWER = "The keeper **counts** the steps, `109` of them.\n\n- Oil\n- A lens\n\n"


@dataclass(frozen=True)
class Opened:
    """Of one opening of the long conversation; times in milliseconds."""

    to_first_answer_ms: float
    long_tasks_ms: list[float]
    heap_mib: float
    nodes: int


@dataclass(frozen=True)
class Stretch:
    """Of a stretch of the answer."""

    tokens: float
    main_thread_us_per_token: float
    long_tasks: int
    frames_over_34_ms: int
    frames: int
    heap_mib: float


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=200.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="triplane-bench-web-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        async with (
            running_web_answer_engine(asked.tokens, asked.rate) as engine_url,
            _running_browser() as browser,
            running_stack(folder, {"TRIPLANE_ENGINE_URL": engine_url}, MODEL) as stack,
        ):
            page = await _signed_in(browser, stack, folder)
            long = await _conversation(stack, asked.messages)
            opened = [await _open(page, long) for _ in range(_OPENINGS)]
            async with asyncio.timeout(_CLIMB_S):
                climbed = await _climb(page, asked.messages)
            alone = await _answer(page, await _conversation(stack, 0), asked.tokens, asked.rate)
            below = await _answer(page, long, asked.tokens // 4, asked.rate)
    _tell(asked, opened, climbed, {"a new conversation": alone, f"behind {asked.messages} messages": below})


@asynccontextmanager
async def _running_browser() -> AsyncIterator[Browser]:
    executable = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


async def _signed_in(browser: Browser, stack: Stack, folder: Path) -> Page:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "triplane.cli", "sign-in-link",
        env={"TRIPLANE_DATA_DIR": str(folder), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    link = next(word for word in said.decode().split() if "token=" in word)
    base = stack.planes.url.removesuffix("/v1")
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, base_url=base)
    page = await context.new_page()
    await page.add_init_script(_WATCH)
    await page.goto(f"{base}{urlsplit(link).path}?{urlsplit(link).query}")
    await page.get_by_role("textbox", name="Message", exact=True).wait_for()
    return page


async def _conversation(stack: Stack, messages: int) -> str:
    """One of the page's own user, with so many messages; its id."""
    headers = {"authorization": f"Bearer {stack.planes.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{stack.planes.url}/conversations", json={}) as answer,
    ):
        conversation = str((await answer.json())["id"])
    if messages:
        connection = await asyncpg.connect(stack.database_url)
        try:
            await connection.execute(_INSERT, conversation, messages, _ANSWER)
            await connection.execute(_SHOW, conversation, messages)
        finally:
            await asyncio.wait_for(connection.close(), 5)
    return conversation


async def _open(page: Page, conversation: str) -> Opened:
    await page.goto(f"/c/{conversation}")
    await page.wait_for_function("() => seen.firstAnswer !== null")
    await page.wait_for_timeout(1000)  # long tasks that follow count too
    seen = await page.evaluate("() => ({at: seen.firstAnswer, tasks: seen.longTasks})")
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.collectGarbage")
    metrics = await _metrics(session)
    return Opened(seen["at"], seen["tasks"], metrics["JSHeapUsedSize"] / 2**20, int(metrics["Nodes"]))


async def _climb(page: Page, messages: int) -> dict[str, float]:
    """Scrolls to the first message, as fast as the page brings them."""
    await page.evaluate("() => { seen.longTasks = []; }")
    began = asyncio.get_running_loop().time()
    await page.evaluate(
        """async () => {
            const box = document.querySelector('[role=region][aria-label=Messages]');
            const first = () => box.querySelector('article')?.textContent ?? '';
            while (!first().includes('Question 1 of')) {
                box.scrollTop = 0;
                await new Promise(requestAnimationFrame);
            }
        }"""
    )
    took = asyncio.get_running_loop().time() - began
    tasks = await page.evaluate("() => seen.longTasks")
    metrics = await _metrics(await page.context.new_cdp_session(page))
    return {
        "messages": messages,
        "s": round(took, 2),
        "longest_task_ms": max(tasks, default=0.0),
        "heap_mib": metrics["JSHeapUsedSize"] / 2**20,
    }


async def _answer(page: Page, conversation: str, tokens: int, rate: float) -> list[Stretch]:
    """Ask there, and look at the page in ten stretches of so many tokens in all."""
    await page.goto(f"/c/{conversation}")
    field = page.get_by_role("textbox", name="Message", exact=True)
    await field.fill("Write it all.")
    before = await page.evaluate(_SHOWN)
    await field.press("Enter")
    await page.wait_for_function(f"(before) => ({_SHOWN})() !== before", arg=before)
    session = await page.context.new_cdp_session(page)
    stretches = [await _stretch(page, session, tokens / rate / 10) for _ in range(10)]
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Send message").wait_for(timeout=_SEND_MS)
    return stretches


async def _stretch(page: Page, session: CDPSession, seconds: float) -> Stretch:
    await page.evaluate("() => { seen.longTasks = []; seen.gaps = []; }")
    shown, start = await page.evaluate(_SHOWN), await _metrics(session)
    await asyncio.sleep(seconds)
    end, shown_then = await _metrics(session), await page.evaluate(_SHOWN)
    seen = await page.evaluate("() => seen")
    # Marks and rules aren't shown: what is shown is about nine tenths of what came.
    tokens = max(1.0, (shown_then - shown) / 4)
    busy = end["TaskDuration"] - start["TaskDuration"]
    return Stretch(
        tokens=tokens,
        main_thread_us_per_token=busy / tokens * 1e6,
        long_tasks=len(seen["longTasks"]),
        frames_over_34_ms=sum(gap > 34 for gap in seen["gaps"]),
        frames=len(seen["gaps"]),
        heap_mib=end["JSHeapUsedSize"] / 2**20,
    )


async def _metrics(session: CDPSession) -> dict[str, float]:
    await session.send("Performance.enable")
    found = await session.send("Performance.getMetrics")
    return {one["name"]: one["value"] for one in found["metrics"]}


def _tell(
    asked: argparse.Namespace,
    opened: list[Opened],
    climbed: dict[str, float],
    answers: dict[str, list[Stretch]],
) -> None:
    times = sorted(one.to_first_answer_ms for one in opened)
    longest = max((task for one in opened for task in one.long_tasks_ms), default=0.0)
    lines = [
        f"Opening {asked.messages} messages: {times[len(times) // 2]:.0f} ms to the last answer "
        f"(median of {len(times)}, slowest {times[-1]:.0f}); longest task {longest:.0f} ms; "
        f"heap {opened[-1].heap_mib:.1f} MiB; {opened[-1].nodes} nodes.",
        f"Scrolling to the first: {climbed['s']:.1f} s; longest task {climbed['longest_task_ms']:.0f} ms; "
        f"heap {climbed['heap_mib']:.1f} MiB.",
        "",
        "| answer, by tenths | main thread, µs a token | frames over 34 ms | long tasks | heap, MiB |",
        "|---|---|---|---|---|",
    ]
    for where, stretches in answers.items():
        for place, one in enumerate(stretches):
            lines.append(
                f"| {where}, {place + 1} | {one.main_thread_us_per_token:.0f} | {one.frames_over_34_ms} of "
                f"{one.frames} | {one.long_tasks} | {one.heap_mib:.1f} |"
            )
    sys.stdout.write("\n".join(lines) + "\n")
    RESULTS.mkdir(exist_ok=True)
    result = {
        "opened": [asdict(one) for one in opened],
        "climbed": climbed,
        "answers": {where: [asdict(one) for one in stretches] for where, stretches in answers.items()},
    }
    file = RESULTS / f"web-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    sys.stdout.write(f"\nThe numbers are in {file}.\n")


if __name__ == "__main__":
    asyncio.run(main())
