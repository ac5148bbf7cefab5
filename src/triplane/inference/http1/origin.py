"""Where a server is: scheme, host, port (RFC 6454)."""

from dataclasses import dataclass
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    scheme: str
    host: str
    port: int

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def origin_of(url: str) -> tuple[Origin, str]:
    """The origin of an `http` or `https` URL, and its path with the query. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        raise ValueError("an engine's address is http://HOST:PORT/… or https://…, without a user name")
    path = parts.path or "/"
    if not url.isascii() or any(character <= " " for character in url):
        raise ValueError("an engine's address may have no spaces and no letters beyond ASCII")
    origin = Origin(parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])
    return origin, f"{path}?{parts.query}" if parts.query else path
