"""Single numbers out of an engine's `/metrics`, without reading the rest of it.

The text is Prometheus' exposition format (prometheus.io/docs/instrumenting/exposition_formats): one sample
a line, `name{label="value",…} number`. An engine's page has thousands of lines, of which three are wanted.
"""

from collections.abc import Callable, Iterator

from triplane.domain.errors import EngineUnavailable
from triplane.inference.engines.engine import EngineLoad

Chooses = Callable[[bytes], bool]


def _every(labels: bytes) -> bool:
    return True


def load_from(
    text: bytes,
    *,
    running: bytes,
    waiting: bytes,
    kv_usage: tuple[bytes, ...] = (),
    chooses: Chooses = _every,
) -> EngineLoad:
    """The load by these metrics' names, summed over a server's engines; the KV usage is the fullest's.

    `kv_usage` names are tried in order. Raises EngineUnavailable if the counts aren't there.
    """
    running_now = samples(text, running, chooses)
    waiting_now = samples(text, waiting, chooses)
    if not running_now or not waiting_now:
        raise EngineUnavailable("The engine's metrics don't say how many requests it runs.")
    usages = next((found for name in kv_usage if (found := samples(text, name, chooses))), [])
    return EngineLoad(
        running=round(sum(running_now)),
        waiting=round(sum(waiting_now)),
        kv_usage=max(usages) if usages else None,
    )


def samples(text: bytes, name: bytes, chooses: Chooses = _every) -> list[float]:
    """The values of the metric's samples whose labels (the text between the braces) are chosen."""
    return [value for labels, value in _samples(text, name) if chooses(labels)]


def _samples(text: bytes, name: bytes) -> Iterator[tuple[bytes, float]]:
    at = text.find(name)
    while at >= 0:
        end = text.find(b"\n", at)
        end = len(text) if end < 0 else end
        rest = text[at + len(name) : end]
        if (at == 0 or text[at - 1] == ord("\n")) and rest[:1] in (b"{", b" "):
            labels, _, value = rest.rpartition(b"}") if rest.startswith(b"{") else (b"", b"", rest)
            number = _number(value)
            if number is not None:
                yield labels[1:], number
        at = text.find(name, end)


def _number(value: bytes) -> float | None:
    """A count or ratio; NaN, infinities and nonsense are no samples."""
    try:
        number = float(value.split()[0])
    except (IndexError, ValueError):
        return None
    return number if 0 <= number < 1e15 else None
