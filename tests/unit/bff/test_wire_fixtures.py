"""The streams that the page's decoder is tested with are the ones that our encoder writes."""

import pytest

from wire_streams import FOLDER, STREAMS, encoded


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_is_what_the_encoder_writes(name: str) -> None:
    assert (FOLDER / f"{name}.sse").read_bytes() == encoded(STREAMS[name])
