"""A relay as one writes it first, aiohttp on both sides and nothing else: `PORT UPSTREAM_PORT`."""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web


async def serve(port: int, upstream_port: int) -> None:
    url = f"http://127.0.0.1:{upstream_port}"
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    ) as session:

        async def relay(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            headers = {"content-type": "application/json"}
            async with session.request(
                request.method, url + request.path, data=body, headers=headers
            ) as told:
                if "content-length" in told.headers:
                    return web.Response(
                        status=told.status, body=await told.read(), content_type=told.content_type
                    )
                response = web.StreamResponse(
                    status=told.status, headers={"content-type": told.headers["content-type"]}
                )
                await response.prepare(request)
                async for data in told.content.iter_any():
                    await response.write(data)
                await response.write_eof()
                return response

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", relay)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
