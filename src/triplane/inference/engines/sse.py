"""Server-sent events: bytes in, the data of each event out, in O(bytes) whatever the chunks.

Lines end in LF or CRLF (no engine sends a lone CR). Comments and all fields but `data` are skipped.
"""

from triplane.domain.errors import EngineFailed

MAX_EVENT_BYTES = 4 * 2**20


class SseParser:
    """Feed it what comes from the socket. An event larger than `max_event_bytes` raises EngineFailed."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._tail: list[bytes] = []
        self._tail_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that this chunk completes."""
        if not self._tail and not self._data and (events := _single_lines(chunk)) is not None:
            return events
        end = chunk.rfind(b"\n")
        if end < 0:
            self._keep(chunk)
            return []
        lines = (b"".join((*self._tail, chunk[:end])) if self._tail else chunk[:end]).split(b"\n")
        self._tail.clear()
        self._tail_bytes = 0
        self._keep(chunk[end + 1 :])
        return self._events_of(lines)

    def _keep(self, rest: bytes) -> None:
        if not rest:
            return
        self._tail.append(rest)
        self._tail_bytes += len(rest)
        self._require_room(self._tail_bytes)

    def _events_of(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for raw in lines:
            line = raw[:-1] if raw.endswith(b"\r") else raw
            if line.startswith(b"data:"):
                value = line[6:] if line.startswith(b"data: ") else line[5:]
                data.append(value)
                self._data_bytes += len(value)
                self._require_room(self._data_bytes)
            elif not line and data:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
                self._data_bytes = 0
        return events

    def _require_room(self, size: int) -> None:
        if size > self._max:
            raise EngineFailed("The engine sent an event that is too large.")


def _single_lines(chunk: bytes) -> list[bytes] | None:
    """The data of whole events of one line each, the way that engines send them; None: it isn't so simple."""
    if not chunk.endswith(b"\n\n") or b"\r" in chunk:
        return None
    lines = chunk[:-2].split(b"\n\n")
    if chunk.count(b"\n") != 2 * len(lines):
        return None
    if all(line.startswith(b"data: ") for line in lines):
        return [line[6:] for line in lines]
    return None
