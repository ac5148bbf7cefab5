"""Random secrets and the hash under which they are stored.

Each secret has 256 random bits: there is nothing to guess, so SHA-256 is enough and looking a secret up by
its hash tells a listener nothing about others.
"""

import hashlib
import secrets


def new_secret() -> str:
    """43 characters that are safe in a URL: 256 random bits."""
    return secrets.token_urlsafe(32)


def sha256_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
