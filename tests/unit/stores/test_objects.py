"""The object store in a local folder."""

from pathlib import Path

import pytest

from triplane.adapters.objects import open_objects
from triplane.domain.errors import NotFound


@pytest.mark.parametrize("address", [None, "file"])
async def test_a_blob_comes_back_until_it_is_deleted(tmp_path: Path, address: str | None) -> None:
    objects = open_objects(f"file://{tmp_path}/a%20b" if address else None, tmp_path)
    await objects.check()
    assert await objects.size("a/b.txt") is None

    await objects.put("a/b.txt", b"first")
    await objects.put("a/b.txt", b"second!")

    assert await objects.get("a/b.txt") == b"second!"
    assert await objects.size("a/b.txt") == 7
    await objects.delete("a/b.txt")
    await objects.delete("a/b.txt")
    with pytest.raises(NotFound):
        await objects.get("a/b.txt")
