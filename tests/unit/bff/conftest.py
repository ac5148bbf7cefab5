from collections.abc import AsyncIterator

import httpx
import pytest

from http_app import HttpApp


@pytest.fixture
def http_app() -> HttpApp:
    return HttpApp()


@pytest.fixture
async def client(http_app: HttpApp) -> AsyncIterator[httpx.AsyncClient]:
    async with http_app.with_key() as client:
        yield client
