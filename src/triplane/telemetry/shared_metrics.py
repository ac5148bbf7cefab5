"""The folder through which the processes of one server share their metrics."""

import re
from pathlib import Path

import psutil

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Set it before a process first imports `telemetry.metrics`: the library reads it at import."""

_LIVE_GAUGES = re.compile(r"gauge_live[a-z]*_(\d+)\.db\Z")


def start_shared_metrics(directory: Path) -> dict[str, str]:
    """Make the folder, empty, before the first process starts; returns what to add to their environment."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left_over in directory.glob("*.db"):
        left_over.unlink(missing_ok=True)
    return {DIRECTORY_VARIABLE: str(directory)}


def forget_ended_processes(directory: Path) -> None:
    """Drop the gauges of processes that have ended: what they had open is open no longer."""
    for gauges in directory.glob("gauge_live*.db"):
        found = _LIVE_GAUGES.search(gauges.name)
        if found and not psutil.pid_exists(int(found[1])):
            gauges.unlink(missing_ok=True)
