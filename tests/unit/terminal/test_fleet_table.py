"""The fleet in the terminal."""

import io

from rich.console import Console

from triplane.domain.fleet import FleetReport, Recent, ReplicaView, RouteView
from triplane.experience.fleet_table import table_of


def shown(*routes: RouteView) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    console.print(table_of(FleetReport(process="host:42", at=0.0, routes=list(routes))))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def row_of(lines: list[str], word: str) -> list[str]:
    [line] = [line for line in lines if word in line]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_row_for_each_replica_and_the_routes_figures_once() -> None:
    busy = ReplicaView(
        name="large@a", state="open", in_flight=2, busy_for_s=0, running=4, waiting=1, kv_usage=0.456
    )
    told_to_wait = ReplicaView(name="large@b", state="closed", in_flight=0, busy_for_s=3.0)
    recent = Recent(calls=9, errors=1, tokens_per_s=70.5, ttft_p50_s=0.031, ttft_p95_s=1.25)
    lines = shown(
        RouteView(
            name="large",
            engine="vllm",
            slots=8,
            held=2,
            waiting=3,
            recent=recent,
            replicas=[busy, told_to_wait],
        )
    )

    assert "host:42" in lines[0]
    assert row_of(lines, "70.5") == [
        "large", "a", "open", "2", "4", "1", "46%", "2/8", "3", "31 ms", "1.25 s", "70.5", "1/9",
    ]  # fmt: skip
    assert row_of(lines, "busy") == ["", "b", "busy", "0"] + [""] * 9


def test_what_is_not_known_is_left_empty() -> None:
    replica = ReplicaView(name="cloud", state="half_open", in_flight=0, busy_for_s=0)
    route = RouteView(name="cloud", engine="openai_http", slots=None, held=0, waiting=0, replicas=[replica])

    assert row_of(shown(route), "half open") == [
        "cloud", "cloud", "half open", "0", "", "", "", "0/∞", "0", "", "", "0.0", "0/0",
    ]  # fmt: skip
