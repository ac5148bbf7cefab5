"""The fleet as a table of the terminal, once or again and again."""

import asyncio
import sys
from datetime import datetime

import aiohttp
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from triplane.domain.errors import DependencyFailed
from triplane.domain.fleet import BreakerState, FleetReport, ReplicaView, RouteView
from triplane.experience.fleet_client import read_fleet

REFRESH_S = 1.0

_STYLES: dict[BreakerState, str] = {"closed": "green", "half_open": "yellow", "open": "bold red"}

_COLUMNS = (
    "route", "replica", "breaker", "calls", "running", "waiting", "KV cache",
    "slots", "queue", "TTFT p50", "p95", "tokens/s", "errors",
)  # fmt: skip


async def print_fleet(url: str, key: str) -> None:
    """The fleet as JSON on standard output. Raises TriplaneError."""
    async with aiohttp.ClientSession() as session:
        report = await read_fleet(session, url, key)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")


async def watch_fleet(url: str, key: str, console: Console) -> None:
    """Show the fleet until interrupted. Raises TriplaneError if the first look fails; a later one that does
    is told below the last table, and tried again."""
    async with aiohttp.ClientSession() as session:
        report = await read_fleet(session, url, key)
        with Live(table_of(report), console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                await asyncio.sleep(REFRESH_S)
                try:
                    report = await read_fleet(session, url, key)
                    live.update(table_of(report), refresh=True)
                except DependencyFailed as error:
                    told = Text(f"{error.message} Trying again …", style="bold red")
                    live.update(Group(table_of(report), told), refresh=True)


def table_of(report: FleetReport) -> RenderableType:
    """A row for each replica; what belongs to its route stands in the first one."""
    at = datetime.fromtimestamp(report.at).astimezone()
    table = Table(title=f"{report.process}, {at:%H:%M:%S}", title_justify="left", expand=True)
    for place, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if place < 3 else "right", no_wrap=place < 2)
    for route in report.routes:
        for place, replica in enumerate(route.replicas):
            table.add_row(*_replica_cells(route, replica, place), *_route_cells(route, place))
    note = Text(
        "calls, slots, queue and the last minute (TTFT, tokens/s, errors): this process's share", style="dim"
    )
    return Group(table, note)


def _replica_cells(route: RouteView, replica: ReplicaView, place: int) -> list[RenderableType]:
    state = "busy" if replica.busy_for_s > 0 and replica.state == "closed" else replica.state
    style = "yellow" if state == "busy" else _STYLES[replica.state]
    return [
        "" if place else route.name,
        replica.name.removeprefix(f"{route.name}@"),
        Text(state.replace("_", " "), style=style),
        str(replica.in_flight),
        _number(replica.running),
        _number(replica.waiting),
        "" if replica.kv_usage is None else f"{replica.kv_usage:.0%}",
    ]


def _route_cells(route: RouteView, place: int) -> list[RenderableType]:
    if place:
        return []
    recent = route.recent
    return [
        f"{route.held}/{'∞' if route.slots is None else route.slots}",
        str(route.waiting),
        _seconds(recent.ttft_p50_s),
        _seconds(recent.ttft_p95_s),
        f"{recent.tokens_per_s:.1f}",
        Text(f"{recent.errors}/{recent.calls}", style="bold red" if recent.errors else ""),
    ]


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
