"""Model files that can't be had, and the list of those that are here."""

from pathlib import Path

import pytest

from triplane.inference.model_files import ModelFileError, list_models, pull, pull_url


def ignore(_done: int, _total: int | None) -> None:
    pass


def test_an_unknown_name_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="smollm2"):
        pull("gpt-17", tmp_path, ignore)


@pytest.mark.parametrize("url", ["http://example.org/m.gguf", "file:///etc/passwd", "https://example.org/"])
def test_only_https_files_are_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="https"):
        pull_url(url, "00", tmp_path, ignore)

    assert list(tmp_path.iterdir()) == []


def test_an_address_that_cannot_be_reached_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="can't be fetched"):
        pull_url("https://127.0.0.1:9/m.gguf", "00", tmp_path, ignore)

    assert list_models(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_only_checked_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "stray.gguf").write_bytes(b"x")
    (tmp_path / "good.gguf").write_bytes(b"abc")
    (tmp_path / "good.gguf.sha256").write_text("12ab  good.gguf\n")

    (listed,) = list_models(tmp_path)

    assert (listed.path.name, listed.bytes, listed.sha256) == ("good.gguf", 3, "12ab")
    assert list_models(tmp_path / "none") == []
