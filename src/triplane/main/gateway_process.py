"""The gateway as a process of its own: over plain HTTP, or over gRPC."""

import asyncio
import gc
import signal
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import start_http_server

from triplane.inference.service.completions import Completions
from triplane.inference.service.embeddings import Embeddings
from triplane.inference.service.http_proxy import HttpProxy
from triplane.inference.service.keys import KeyFile
from triplane.inference.service.metering import CallMeter
from triplane.inference.service.rpc.server import TlsFiles, serving
from triplane.inference.service.server import HttpServer
from triplane.inference.service.usage_log import UsageLog
from triplane.main.gateways import memory_of, own_gateway, pem
from triplane.main.parts import (
    buckets_of,
    limiter_of,
    required,
    told_to_stop,
    tracing_of,
)
from triplane.settings import GatewaySettings, Settings
from triplane.telemetry.completions import CompletionMetrics
from triplane.telemetry.logs import configure_logging
from triplane.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class HttpGatewayOptions:
    """`grace_s`: how long running answers may go on once the process is told to stop."""

    keys: Path
    usage_log: Path
    grace_s: float


async def run_http_gateway(settings: Settings, listening: socket.socket, options: HttpGatewayOptions) -> None:
    """The gateway alone, as an OpenAI-compatible proxy, until told to stop.

    Raises SettingsError, KeyFileError, OSError (the usage log can't be opened).
    """
    configure_logging(settings.log_level)
    async with AsyncExitStack() as stack:
        tracing = tracing_of(settings, "triplane-gateway", stack)
        metrics = Metrics()
        keys, usage_log = KeyFile(options.keys), UsageLog(options.usage_log)
        stack.push_async_callback(usage_log.close)
        buckets = buckets_of(settings, metrics, stack)
        observer = CallMeter(CompletionMetrics(metrics), usage_log)
        gateway = own_gateway(settings, metrics, observer, memory_of(settings, stack), stack)
        limiter = limiter_of(settings, buckets, metrics, stack)
        completions = Completions(gateway, limiter, usage_log)
        told = told_to_stop()
        embeddings = Embeddings(gateway, limiter, usage_log)
        proxy = HttpProxy(gateway, keys, completions, embeddings, metrics, tracing, told.is_set)
        server = HttpServer(proxy, settings.max_body_bytes)
        await server.start(listening)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _read_again, keys, usage_log)
        _spare_the_collector()
        _log.info("the gateway listens", keys=len(keys))
        await told.wait()
        await server.drain(options.grace_s)


def _spare_the_collector() -> None:
    """What lives as long as the process needs no looking through, and a token makes few objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def run_rpc_gateway(settings: Settings, address: str, metrics_at: tuple[str, int] | None) -> None:
    """The gateway alone, over gRPC, until told to stop; its metrics over HTTP, if an address is given.

    Raises SettingsError, CatalogueError, RuntimeError (it can't listen there).
    """
    configure_logging(settings.log_level)
    async with AsyncExitStack() as stack:
        tracing_of(settings, "triplane-gateway", stack)
        metrics, told = Metrics(), told_to_stop()
        gateway = own_gateway(
            settings, metrics, CompletionMetrics(metrics), memory_of(settings, stack), stack
        )
        if metrics_at:
            server, thread = start_http_server(metrics_at[1], metrics_at[0], registry=metrics.registry)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        await stack.enter_async_context(serving(gateway, address, _server_tls(settings.gateway)))
        _log.info("the gateway listens", address=address)
        await told.wait()


def _read_again(keys: KeyFile, usage_log: UsageLog) -> None:
    keys.refresh()
    usage_log.reopen()


def _server_tls(wanted: GatewaySettings) -> TlsFiles | None:
    """TLS if there is a certificate; only for known clients if there is an authority of theirs."""
    if wanted.certificate is None:
        return None
    key = required(str(wanted.key) if wanted.key else None, "TRIPLANE_GATEWAY_KEY")
    ca = pem(wanted.ca) if wanted.ca else None
    return TlsFiles(key=pem(Path(key)), certificate=pem(wanted.certificate), client_ca=ca)
