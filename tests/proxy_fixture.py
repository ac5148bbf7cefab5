"""The gateway's HTTP face in this process, over a fleet of simulated engines."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fleets import MODEL, Fleet, running_fleet
from triplane.inference.buckets import MemoryBuckets
from triplane.inference.limit_policy import LimitPolicy
from triplane.inference.limits import Limiter
from triplane.inference.service.completions import Completions
from triplane.inference.service.embeddings import Embeddings
from triplane.inference.service.http_proxy import HttpProxy
from triplane.inference.service.keys import KeyFile, make_key
from triplane.inference.service.metering import CallMeter
from triplane.inference.service.server import HttpServer
from triplane.inference.service.usage_log import UsageLine, UsageLog
from triplane.telemetry.completions import CompletionMetrics
from triplane.telemetry.metrics import Metrics
from triplane.telemetry.traces import start_tracing
from waiting import until

MAX_BODY_BYTES = 100_000
QUESTION: Any = [{"role": "user", "content": "Tell me about the sea."}]


@dataclass
class ServedProxy:
    """`url` without the `/v1`. `key` is the secret of the key `alice`, in the file `keys`."""

    fleet: Fleet
    server: HttpServer
    port: int
    key: str
    keys: Path
    usage_log: UsageLog
    usage_path: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> int:
        """What the engines run now."""
        told = [each.engine.simulation for each in self.fleet.engines]
        return sum(each.running + each.waiting for each in told)

    async def usage(self, count: int) -> list[UsageLine]:
        """The lines of the usage log, once there are so many."""
        await until(lambda: len(read_usage(self.usage_path)) >= count)
        return read_usage(self.usage_path)


def read_usage(path: Path) -> list[UsageLine]:
    return [msgspec.json.decode(line, type=UsageLine) for line in path.read_bytes().splitlines()]


@asynccontextmanager
async def serving_proxy(
    folder: Path,
    routes: dict[str, dict[str, Any]] | None = None,
    *,
    policy: LimitPolicy | None = None,
    **engine: Any,
) -> AsyncIterator[ServedProxy]:
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        secret, lines = make_key("alice")
        keys, usage_path = folder / "keys.toml", folder / "usage.jsonl"
        keys.write_text(f'{lines}tenant = "acme"\n')
        usage_log = UsageLog(usage_path)
        stack.push_async_callback(usage_log.close)
        meter = CallMeter(CompletionMetrics(metrics), usage_log)
        fleet = await stack.enter_async_context(
            running_fleet(routes or {"pool": {}}, engine=engine, observer=meter)
        )
        limiter = Limiter(MemoryBuckets(), policy or LimitPolicy(), metrics)
        completions = Completions(fleet.gateway, limiter, usage_log)
        tracing = start_tracing(None, "test", "0")
        server = HttpServer(
            HttpProxy(
                fleet.gateway,
                KeyFile(keys),
                completions,
                Embeddings(fleet.gateway, limiter, usage_log),
                metrics,
                tracing,
            ),
            MAX_BODY_BYTES,
        )
        listening = socket.create_server(("127.0.0.1", 0))
        await server.start(listening)
        stack.push_async_callback(server.drain, 0.0)
        port = listening.getsockname()[1]
        yield ServedProxy(fleet, server, port, secret, keys, usage_log, usage_path)


def post(proxy: ServedProxy, body: Any, path: str = "/v1/chat/completions", key: str | None = None) -> bytes:
    """A request as it goes over the line."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer {key or proxy.key}\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def question(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": QUESTION, **fields}


async def say(proxy: ServedProxy, data: bytes, *, then_ends: bool = False) -> bytes:
    """Send this, and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            if then_ends:
                writer.write_eof()
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def is_well(proxy: ServedProxy) -> bool:
    closing = post(proxy, question(max_tokens=3)).replace(b"host: test", b"host: test\r\nconnection: close")
    return (await say(proxy, closing)).startswith(b"HTTP/1.1 200 ")
