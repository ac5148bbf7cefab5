"""A gateway behind a small server of the Messages API, made of our own translation and nothing else."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import msgspec
from aiohttp import web

from triplane.domain.anthropic.answers import MessagesCollector, MessagesEncoder, present_messages_error
from triplane.domain.anthropic.requests import parse_messages_request
from triplane.domain.errors import Busy, DependencyFailed, NotFound, Refused, TriplaneError
from triplane.domain.ids import new_id
from triplane.inference.gateway import AnyCompletion, Gateway


@asynccontextmanager
async def serving_messages(gateway: Gateway) -> AsyncIterator[str]:
    """The address of it, which ends in `/v1`."""

    async def messages(request: web.Request) -> web.StreamResponse:
        try:
            asked = parse_messages_request(await request.read(), new_id("req"))
            completion = await gateway.complete(asked.completion)
            async with aclosing(completion):
                if asked.stream:
                    return await _stream(request, completion, asked.completion.model)
                return await _whole(completion, asked.completion.model)
        except TriplaneError as error:
            return _json(present_messages_error(error), _status(error))

    async def models(_: web.Request) -> web.StreamResponse:
        return _json({"data": [{"id": card.id, "type": "model"} for card in await gateway.models()]})

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/messages", messages)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def _stream(request: web.Request, completion: AnyCompletion, model: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    encoder = MessagesEncoder(new_id("msg"), model)
    async for event in completion:
        await response.write(encoder.encode(event))
    return response


async def _whole(completion: AnyCompletion, model: str) -> web.Response:
    collector = MessagesCollector(new_id("msg"), model)
    async for event in completion:
        message = collector.add(event)
        if message is not None:
            return _json(message)
    raise AssertionError("a completion ends with Finished or Failed")


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")


def _status(error: TriplaneError) -> int:
    by_kind = {NotFound: 404, Refused: 400, Busy: 529, DependencyFailed: 502}
    return next((status for kind, status in by_kind.items() if isinstance(error, kind)), 500)
