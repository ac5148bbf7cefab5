"""Blobs: uploads, exports, Parquet. A local folder, or S3, Google Cloud Storage or Azure by their address."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from triplane.domain.errors import NotFound, StoreUnavailable


class Objects:
    """Blobs by key. Every method raises StoreUnavailable if the store can't be reached."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, key: str, data: bytes) -> None:
        """Write the blob whole, or not at all; one that is there is replaced."""
        try:
            await self._store.put_async(key, data)
        except BaseError as exc:
            raise _unavailable() from exc

    async def get(self, key: str) -> bytes:
        """Raises NotFound."""
        try:
            found = await self._store.get_async(key)
            return bytes(await found.bytes_async())
        except (NotFoundError, FileNotFoundError) as exc:
            raise NotFound("No such object.") from exc
        except BaseError as exc:
            raise _unavailable() from exc

    async def size(self, key: str) -> int | None:
        """In bytes; None if there is no such blob."""
        try:
            return (await self._store.head_async(key))["size"]
        except (NotFoundError, FileNotFoundError):
            return None
        except BaseError as exc:
            raise _unavailable() from exc

    async def delete(self, key: str) -> None:
        """Deleting what isn't there is harmless."""
        try:
            await self._store.delete_async(key)
        except (NotFoundError, FileNotFoundError):
            return
        except BaseError as exc:
            raise _unavailable() from exc

    async def check(self) -> None:
        """Raises StoreUnavailable unless the store answers: for readiness."""
        await self.size("readiness")


def open_objects(url: str | None, data_dir: Path) -> Objects:
    """The store at `url`; without one, the folder `objects` of `data_dir`.

    A cloud's credentials come from its usual environment variables.
    """
    if url is None:
        return Objects(LocalStore(data_dir / "objects", mkdir=True))
    if url.startswith("file://"):
        return Objects(LocalStore(Path(unquote(urlsplit(url).path)), mkdir=True))
    return Objects(from_url(url))


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("The object store can't be reached right now. Try again shortly.")
