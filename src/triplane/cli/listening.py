"""The socket that all API workers share: bound once, by the supervisor, before anything starts."""

import errno
import socket
from dataclasses import dataclass

from triplane.adapters.embedded.server_folder import EmbeddedServerError

_PORTS_TRIED = 50
_BACKLOG = 2048


@dataclass(frozen=True)
class Listener:
    """`url` is the address for a person on this machine, `port` the one that was to be had."""

    socket: socket.socket
    url: str
    port: int


def listen(host: str, port: int) -> Listener:
    """Listen on the port, or on the next free one. Raises EmbeddedServerError."""
    family, address = _resolve(host)
    for candidate in [port] if port == 0 else range(port, min(port + _PORTS_TRIED, 65536)):
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((address, candidate))
            bound.listen(_BACKLOG)
        except PermissionError:
            bound.close()
            raise EmbeddedServerError(
                f"Port {candidate} is for administrators: set TRIPLANE_PORT to one from 1024 on."
            ) from None
        except OSError as error:
            bound.close()
            if not _is_taken(error):
                raise EmbeddedServerError(f"Can't listen on {host}: {error.strerror}.") from None
        else:
            taken = int(bound.getsockname()[1])
            return Listener(bound, f"http://{_shown(host, family)}:{taken}", taken)
    raise EmbeddedServerError(f"The ports from {port} on are all taken: set TRIPLANE_PORT to a free one.")


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        raise EmbeddedServerError(f"TRIPLANE_HOST is {host!r}: that is no address of this machine.") from None
    family, _, _, _, address = found[0]
    return family, str(address[0])


def _is_taken(error: OSError) -> bool:
    return error.errno == errno.EADDRINUSE


def _shown(host: str, family: socket.AddressFamily) -> str:
    """How a browser on this machine reaches the host."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104  shown, not bound
        return "127.0.0.1"
    return f"[{host}]" if family == socket.AF_INET6 and ":" in host else host
