"""`triplane gateway`: the gateway alone, without a database; and the keys for it."""

import socket
from pathlib import Path

import uvloop

from triplane.cli.errors import CommandFailed
from triplane.inference.service.keys import KeyFileError, make_key
from triplane.settings import Settings

_BACKLOG = 2048


def run_http_gateway_process(
    settings: Settings, address: str, keys: Path | None, usage_log: Path | None, grace_s: float
) -> None:
    from triplane.main.gateway_process import HttpGatewayOptions, run_http_gateway

    options = HttpGatewayOptions(
        keys=keys or settings.data_dir / "gateway-keys.toml",
        usage_log=usage_log or settings.data_dir / "gateway-usage.jsonl",
        grace_s=grace_s,
    )
    try:
        uvloop.run(run_http_gateway(settings, _bind(address), options))
    except KeyFileError as error:
        raise CommandFailed(str(error)) from None
    except OSError as error:
        raise CommandFailed(f"{error.filename or options.usage_log}: {error.strerror}.") from None


def run_rpc_gateway_process(settings: Settings, address: str, metrics: str | None) -> None:
    from triplane.main.gateway_process import run_rpc_gateway

    if not address.startswith("unix:"):
        _host_and_port(address)
    try:
        uvloop.run(run_rpc_gateway(settings, address, _host_and_port(metrics) if metrics else None))
    except RuntimeError as error:
        raise CommandFailed(str(error)) from None


def new_gateway_key(name: str) -> tuple[str, str]:
    """A secret, and the lines for the key file."""
    try:
        return make_key(name)
    except KeyFileError as error:
        raise CommandFailed(str(error)) from None


def _bind(address: str) -> socket.socket:
    """Exactly the address that was asked for: a proxy that moves is not found."""
    host, port = _host_and_port(address)
    try:
        family, _, _, _, resolved = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(resolved[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CommandFailed(f"Can't listen on {address}: {error.strerror or error}.") from None


def _host_and_port(address: str) -> tuple[str, int]:
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise CommandFailed(f"{address!r} is no address: write HOST:PORT, such as 127.0.0.1:8500.")
    return host.removeprefix("[").removesuffix("]"), int(port)
