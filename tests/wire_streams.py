"""Streams as our encoder writes them, kept in `fixtures/wire` for the page's decoder to read too.

`python tests/wire_streams.py` writes them anew after a change that is meant.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from triplane.domain.events import (
    Delta,
    Finished,
    LogEntry,
    ToolCallDelta,
    TurnEnded,
    TurnError,
    TurnEvent,
    TurnStarted,
    Usage,
)
from triplane.orchestration.bff.answers import identity_of_turn, stream_turn

FOLDER = Path(__file__).parent / "fixtures" / "wire"

_USAGE = Usage(prompt_tokens=20, completion_tokens=3, cached_tokens=12)
_STARTED = TurnStarted(
    turn_id="turn_1", conversation_id="conv_1", message_id="msg_1", model="smollm2", created=1
)
_CALL = ToolCallDelta(index=0, id="call_1", name="weather", arguments='{"city":')
_TEXT: list[TurnEvent] = [_STARTED, Delta(text="Grüß "), Delta(text="Gott,\n\n"), Delta(text="“世界” 👋")]

STREAMS: dict[str, list[TurnEvent]] = {
    "complete": [
        *_TEXT,
        Finished(reason="stop", usage=_USAGE),
        TurnEnded(status="complete", finish_reason="stop", usage=_USAGE),
    ],
    "stopped": [*_TEXT[:3], TurnEnded(status="stopped", finish_reason="stop", usage=_USAGE)],
    "stopped-before-the-first-token": [_STARTED, TurnEnded(status="stopped", finish_reason="stop")],
    "broken-off": [
        *_TEXT[:3],
        TurnEnded(
            status="incomplete",
            usage=_USAGE,
            error=TurnError(code="stream_stalled", message="The engine stopped in the middle of its answer."),
        ),
    ],
    "tool-call": [
        _STARTED,
        _CALL,
        ToolCallDelta(index=0, arguments=' "Bonn"}'),
        Finished(reason="tool_calls", usage=_USAGE),
        TurnEnded(status="complete", finish_reason="tool_calls", usage=_USAGE),
    ],
}


def encoded(events: list[TurnEvent]) -> bytes:
    """The whole stream with its usage chunk."""
    identity = identity_of_turn("turn_1", "conv_1", "msg_1", "smollm2", datetime(2026, 11, 1, tzinfo=UTC))

    async def entries() -> AsyncIterator[LogEntry]:
        for place, event in enumerate(events, start=1):
            yield LogEntry(position=place, event=event)

    async def collected() -> bytes:
        return b"".join([frame async for frame in stream_turn(entries(), identity, include_usage=True)])

    return asyncio.run(collected())


if __name__ == "__main__":
    for name, events in STREAMS.items():
        (FOLDER / f"{name}.sse").write_bytes(encoded(events))
