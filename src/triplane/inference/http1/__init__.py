"""A lean HTTP/1.1 client for engines: `Client.request` gives a `Response` whose body is read as it comes.

It speaks RFC 9112 on asyncio's protocols and llhttp's parser, and leaves out all that no engine needs:
redirects, cookies, compression, proxies, upgrades.
"""

from triplane.inference.http1.client import Client
from triplane.inference.http1.errors import ConnectFailed, Disconnected, Http1Error, InvalidResponse
from triplane.inference.http1.origin import Origin, origin_of
from triplane.inference.http1.response import Response

__all__ = [
    "Client",
    "ConnectFailed",
    "Disconnected",
    "Http1Error",
    "InvalidResponse",
    "Origin",
    "Response",
    "origin_of",
]
