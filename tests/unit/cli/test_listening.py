"""Where the server listens, and what it says when it can't."""

import socket
from collections.abc import Iterator

import pytest

from triplane.adapters.embedded.server_folder import EmbeddedServerError
from triplane.cli.listening import listen


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def test_a_taken_port_gives_way_to_a_later_one(taken_port: int) -> None:
    listener = listen("127.0.0.1", taken_port)

    with listener.socket:
        assert taken_port < listener.port < taken_port + 50
        assert listener.url == f"http://127.0.0.1:{listener.port}"


def test_port_0_takes_any() -> None:
    listener = listen("127.0.0.1", 0)

    with listener.socket:
        assert listener.port > 0


def test_listening_on_every_address_shows_one_that_a_browser_can_open() -> None:
    listener = listen("0.0.0.0", 0)

    with listener.socket:
        assert listener.url == f"http://127.0.0.1:{listener.port}"


def test_an_address_of_another_machine_is_refused_plainly() -> None:
    with pytest.raises(EmbeddedServerError, match=r"Can't listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0)


def test_a_name_that_is_no_address_is_refused_plainly() -> None:
    with pytest.raises(EmbeddedServerError, match="TRIPLANE_HOST"):
        listen("no such host", 0)
