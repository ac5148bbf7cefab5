"""What a run is told as."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from chaos.suite import Report


def summary(report: Report) -> str:
    """The report as Markdown; with it and its seed, the same order of turns and faults runs again."""
    plan = report.plan
    states = Counter(turn.state for turn in report.stored.turns.values())
    ways: Counter[str] = Counter(turn.way for turn in report.turns)
    outcomes = Counter(turn.outcome or "gave up" for turn in report.turns)
    taken_over = sum(turn.fence > 1 for turn in report.stored.turns.values())
    lines = [
        f"- Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; seed {plan.seed}; {report.seconds:.0f} s",
        f"- Load: {len(report.turns)} turns by {plan.people} people on {plan.workers} API workers",
        f"- Connections: {sum(turn.connections for turn in report.turns)}; "
        f"refusals that were tried again: {sum(len(turn.refusals) for turn in report.turns)}",
        f"- Clients that read from the start again, because a log was lost: "
        f"{sum(turn.restarts for turn in report.turns)}",
        f"- Turns taken over by another worker: {taken_over}",
        f"- Tokens billed: {report.billed_tokens}; counted by the engine: {report.engine_tokens}, "
        f"which died {report.engine_deaths} times",
        f"- Violations: {len(report.violations)}",
        "",
        *_table("Fault", report.faults),
        *_table("Way of the client", ways),
        *_table("What the client was told in the end", outcomes),
        *_table("State of the stored turns", states),
    ]
    return "\n".join([*lines, *(f"- VIOLATION {line}" for line in report.violations)])


def _table(title: str, counts: Mapping[str, int]) -> list[str]:
    rows = [f"| {name} | {count} |" for name, count in sorted(counts.items())]
    return [f"| {title} | times |", "|---|---|", *rows, ""]
