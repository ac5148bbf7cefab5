"""The API keys of a gateway without a database: a file that holds their hashes, read again when it changes.

[keys.billing-team]
sha256 = "…"             # of the secret, 64 hex digits
plan = "free"            # a plan of the catalogue; may be left out
tenant = "acme"          # whose limits and caches it shares; the key's own name if left out
user = "ann"             # likewise
cache = true              # its deterministic answers may come from the response cache; false if left out
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import structlog

from triplane.domain.completion import Flow
from triplane.domain.errors import Unauthenticated
from triplane.domain.secrets import new_secret, sha256_of

KEY_START = "tp-"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}\Z")

log = structlog.get_logger(__name__)

Text = Annotated[str, msgspec.Meta(max_length=200)]


class KeyFileError(Exception):
    """The file can't be used; the message says why."""


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")]
    plan: Text = ""
    tenant: Text | None = None
    user: Text | None = None
    cache: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: dict[str, KeyEntry] = {}


class KeyFile:
    """The keys in `path`. `refresh` reads it again if it has changed; a bad file leaves the keys as they are.

    Raises KeyFileError when it can't be read at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = _mark(path)
        self._flows: Mapping[bytes, Flow] = _read(path)

    def __len__(self) -> int:
        return len(self._flows)

    def find(self, authorization: str, x_api_key: str = "") -> Flow:
        """Whose the key is, from either header; a bearer key counts first. Raises Unauthenticated.

        A look-up by the hash of 256 random bits: how long it takes tells nothing about other keys.
        """
        scheme, _, secret = authorization.partition(" ") if authorization else ("bearer", "", x_api_key)
        if scheme.lower() != "bearer" or not secret:
            raise Unauthenticated("Send an API key: `Authorization: Bearer KEY`, or `x-api-key: KEY`.")
        flow = self._flows.get(sha256_of(secret.strip()))
        if flow is None:
            raise Unauthenticated("This API key isn't valid here.")
        return flow

    def refresh(self) -> None:
        """Read the file again if it isn't the one that was read last."""
        mark = _mark(self._path)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._flows = _read(self._path)
        except KeyFileError as error:
            log.error("the key file can't be read; the keys stay as they were", reason=str(error))
        else:
            log.info("keys read again", keys=len(self._flows))


def make_key(name: str) -> tuple[str, str]:
    """A new secret, and the lines for the file. Raises KeyFileError if the name can't be used."""
    if not _NAME.match(name):
        raise KeyFileError("Give the key a name of letters, digits, - and _.")
    secret = KEY_START + new_secret()
    return secret, f'[keys.{name}]\nsha256 = "{sha256_of(secret).hex()}"\n'


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes with the file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> dict[bytes, Flow]:
    try:
        parsed = msgspec.convert(tomllib.loads(path.read_text()), _File)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}. `triplane gateway-key NAME` makes a key.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise KeyFileError(f"{path}: {error}") from error
    flows: dict[bytes, Flow] = {}
    for name, entry in parsed.keys.items():
        digest = bytes.fromhex(entry.sha256)
        if digest in flows:
            raise KeyFileError(f"{path}: the keys {flows[digest].api_key!r} and {name!r} are the same.")
        flows[digest] = Flow(
            tenant=entry.tenant or name,
            user=entry.user or name,
            plan=entry.plan,
            api_key=name,
            caches=entry.cache,
        )
    return flows
