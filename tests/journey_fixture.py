"""The whole product, started once for the tests that only use it."""

from collections.abc import Iterator

import pytest

from serve_process import ServeProcess, data_folder, serving


@pytest.fixture(scope="session")
def served() -> Iterator[ServeProcess]:
    """A running `triplane serve`: its address, a sign-in link that nobody has used, a key."""
    with data_folder() as folder:
        with serving(folder) as server:
            yield server
        assert server.survivors() == []
