"""Waiting for work on behalf of a client that may hang up meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request
from litestar.exceptions import ClientException

from triplane.domain.errors import Unauthenticated
from triplane.orchestration.bff.scope import while_allowed

Result = TypeVar("Result")


class ClientGone(ClientException):
    """Nobody is left to read an answer; nginx logs such a request as 499."""

    status_code = 499


async def unless_gone(request: Request[Any, Any, Any], work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client hangs up. Raises ClientGone
    then, and Unauthenticated when the sender's access ends."""
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_until_gone(request))
    try:
        with while_allowed(request.scope) as ended:
            ends = [each for each in (working, gone, ended) if each]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if gone.done():
                raise ClientGone("The client hung up.")
            raise Unauthenticated("Your access has ended.")
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.wait((working, gone))


async def _until_gone(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
