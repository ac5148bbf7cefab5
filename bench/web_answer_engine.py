"""An engine that writes one long Markdown answer at a steady pace, for the page to be measured with."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

MODEL = "steady-writer"

_PARAGRAPH = (
    "The keeper climbs the **one hundred and nine** steps each evening, and counts them, though the "
    "number has never changed. From the gallery one sees `the whole bay`, the "
    "[harbour](https://example.com/harbour) and, on a clear night, the lights of the *next* island.\n\n"
)
_PARTS = (
    "## The lamp\n\n",
    _PARAGRAPH,
    "- Oil for a week\n- A clean lens\n- A log that is **kept**\n\n",
    _PARAGRAPH,
    "| Night | Ships | Wind |\n|---|---:|---|\n| Monday | 3 | west |\n| Tuesday | 11 | south |\n\n",
    "```python\ndef turns(nights: int) -> int:\n    return nights * 12  # every hour of the dark\n```\n\n",
    "The period is $T = 2\\pi\\sqrt{l/g}$, near enough.\n\n",
    _PARAGRAPH,
)


def pieces_of(count: int) -> list[str]:
    """A text of so many pieces of four letters, about what a token is."""
    text = "".join(_PARTS)
    length = count * 4
    text = (text * (length // len(text) + 1))[:length]
    return [text[at : at + 4] for at in range(0, length, 4)]


@asynccontextmanager
async def running_web_answer_engine(tokens: int, tokens_per_s: float) -> AsyncIterator[str]:
    """Answers every streamed question with the same text; the address of its `/v1`."""
    pieces = pieces_of(tokens)

    async def models(_: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "bench"}
        return web.json_response({"object": "list", "data": [model]})

    async def complete(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "A title"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
            return web.json_response(
                _event({"choices": [choice], "object": "chat.completion", "usage": usage})
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with suppress(ConnectionResetError):  # the page has stopped it
            for place, piece in enumerate(pieces):
                await asyncio.sleep(max(0.0, began + place / tokens_per_s - loop.time()))
                choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
                await _send(response, {"choices": [choice]})
            await _end(response, tokens)
        return response

    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


def _event(more: dict[str, object]) -> dict[str, object]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": MODEL, **more}


async def _end(response: web.StreamResponse, tokens: int) -> None:
    await _send(response, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": tokens + 10}
    await _send(response, {"choices": [], "usage": usage})
    await response.write(b"data: [DONE]\n\n")


async def _send(response: web.StreamResponse, more: dict[str, object]) -> None:
    await response.write(f"data: {json.dumps(_event(more))}\n\n".encode())
