"""The table of a run, each number beside its budget."""

from bench.against_engine import WAYS, AgainstEngine
from bench.against_nothing import Cost
from bench.long_conversation import LENGTH, LongConversation
from bench.round_trips import Counted
from bench.slow_streams import SlowStreams

_NAMES = {"engine": "bare engine", "stateless": "stateless, all planes", "turn": "durable turn, all planes"}
_BUDGETS = {
    "cpu_us_per_request": ("CPU of a request, µs", {"stateless": "≤ 126", "turn": ""}),
    "cpu_us_per_event": ("CPU of a streamed event, µs", {"stateless": "≤ 25", "turn": "≤ 45"}),
    "added_ttft_ms_p50": ("added TTFT p50, ms", {"stateless": "< 1", "turn": "< 3"}),
    "added_ttft_ms_p99": ("added TTFT p99, ms", {"stateless": "< 10", "turn": "< 10"}),
    "postgres_round_trips": ("PostgreSQL transactions", {"stateless": "", "turn": "2"}),
    "kib_per_open_stream": ("memory of an open stream, KiB", {"stateless": "< 40", "turn": "< 40"}),
}


def table(engine: list[AgainstEngine], costs: dict[str, Cost], machine: str) -> str:
    """Text for a terminal and for docs alike: Markdown."""
    lines = [f"Machine: {machine}", ""]
    for measured in engine:
        lines += _against_engine(measured)
    lines += ["| before an engine that costs nothing | stateless | budget | durable turn | budget |"]
    lines += ["|---|---|---|---|---|"]
    for field, (title, budgets) in _BUDGETS.items():
        cells = [f"{getattr(costs[way], field):.2f} | {budgets[way]}" for way in ("stateless", "turn")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _against_engine(measured: AgainstEngine) -> list[str]:
    streams = f"{measured.streams} stream" + ("s" if measured.streams > 1 else "")
    lines = [
        f"| {streams} | tokens/s | ratio (> 0.97) | TTFT, ms | added, ms | prompt tokens |",
        "|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        cells = (
            _NAMES[way],
            f"{measured.tokens_per_s[way]:.1f}",
            f"{measured.tokens_ratio[way]:.3f}",
            f"{measured.ttft_ms[way]:.1f}",
            f"{measured.ttft_added_ms[way]:+.1f}",
            f"{measured.prompt_tokens[way]:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def long_table(long: LongConversation) -> str:
    lines = [f"| | new conversation, ms | {LENGTH:,} messages, ms | ratio |", "|---|---|---|---|"]
    for name, each in long.compared.items():
        lines.append(f"| {name} | {each.new_ms:.2f} | {each.long_ms:.2f} | {each.ratio:.2f} |")
    commands = ", ".join(f"{name} {count:.1f}" for name, count in long.redis_commands.items())
    lines += ["", f"A turn: {long.postgres_transactions:.1f} PostgreSQL transactions; Redis: {commands}."]
    return "\n".join(lines) + "\n"


def round_trips_table(counted: Counted) -> str:
    rows = {
        "stateless request": (counted.stateless, ""),
        "turn, its one token included": (counted.turn, "2 and 2, and 1 for the text"),
        "one more event of a turn, alone": (counted.event_alone, ""),
        "one more event of 32 turns": (counted.event_among_many, ""),
    }
    lines = ["| round trips, counted | PostgreSQL | Redis | budget |", "|---|---|---|---|"]
    for name, (each, budget) in rows.items():
        lines.append(f"| {name} | {each.postgres:.2f} | {each.redis:.2f} | {budget} |")
    return "\n".join(lines) + "\n"


def slow_streams_table(slow: dict[str, SlowStreams]) -> str:
    lines = [
        "| slow streams on one worker | at once | memory of each, KiB (< 40) | events/s "
        "| CPU of an event, µs | of one core | TTFT p50, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for way, each in slow.items():
        lines.append(
            f"| {_NAMES[way]} | {each.streams:,} | {each.kib_per_stream:.1f} | {each.events_per_s:.0f} | "
            f"{each.cpu_us_per_event:.0f} | {each.core_used:.0%} | {each.ttft_ms_p50:.0f} |"
        )
    return "\n".join(lines) + "\n"
