"""The decode side of prefill/decode disaggregation: ask a prefill engine for the KV cache it holds.

The address comes with the request, as in vLLM; what is sent to it is no more than the request's number. Let
only your own gateway reach a decode engine.
"""

import asyncio
from collections.abc import Callable

import aiohttp

from triplane.inference.simulated_engine.wire import KvTransferParams

PATH = "/kv-transfer"
_WITHIN_S = 5.0


class KvFetch:
    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, place: KvTransferParams, then: Callable[[bool], None]) -> None:
        """Tell the prefill engine that its blocks are fetched; `then` hears whether it holds them."""
        task = asyncio.get_running_loop().create_task(self._ask(place, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _ask(self, place: KvTransferParams, then: Callable[[bool], None]) -> None:
        then(await self._is_held(place))

    async def _is_held(self, place: KvTransferParams) -> bool:
        body = {"engine_id": place.remote_engine_id, "request_id": place.remote_request_id}
        host = place.remote_host or ""
        url = f"http://{f'[{host}]' if ':' in host else host}:{place.remote_port or 0}{PATH}"
        try:
            async with asyncio.timeout(_WITHIN_S), self._opened().post(url, json=body) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session
