"""`python -m bench`: measure, print a table, leave the numbers in bench/results/."""

import argparse
import asyncio
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import against_engine, against_nothing, long_conversation, round_trips, slow_streams
from bench.against_engine import AgainstEngine
from bench.against_nothing import Cost, Load
from bench.long_conversation import LongConversation
from bench.report import long_table, round_trips_table, slow_streams_table, table
from bench.round_trips import Counted
from bench.slow_streams import SlowStreams, Way
from bench.stack import running_stack
from bench.zero_delay_engine import MODEL as ZERO_DELAY
from bench.zero_delay_engine import running_zero_delay_engine

WAYS: tuple[Way, ...] = ("stateless", "turn")
RESULTS = Path(__file__).parent / "results"
MODEL = "smollm2"


@dataclass(frozen=True, kw_only=True)
class _Measured:
    engine: list[AgainstEngine]
    cost: dict[str, Cost]
    round_trips: Counted
    slow: dict[str, SlowStreams]
    long: LongConversation


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds against the real engine")
    parser.add_argument("--model-file", type=Path, help="the model's file; fetched if it isn't given")
    parser.add_argument("--skip-engine", action="store_true", help="only what the planes themselves cost")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="triplane-bench-"))
    for part in ("engine", "nothing", *WAYS):
        (folder / part).mkdir()
    try:
        measured = asyncio.run(_measure(folder, options.model_file, options.rounds, options.skip_engine))
    except BaseException:
        sys.stderr.write(f"The servers' logs are kept in {folder}.\n")
        raise
    shutil.rmtree(folder)
    _tell(measured)


async def _measure(folder: Path, model_file: Path | None, rounds: int, skip_engine: bool) -> _Measured:
    measured: list[AgainstEngine] = []
    if not skip_engine:
        settings = {"TRIPLANE_MODEL_FILE": str(model_file)} if model_file else {}
        if models := os.environ.get("TRIPLANE_MODELS_DIR"):
            settings["TRIPLANE_MODELS_DIR"] = models
        _say("Against the bare llama.cpp engine …")
        async with running_stack(folder / "engine", settings, MODEL) as stack:
            measured = [await against_engine.measure(stack, streams, rounds) for streams in (1, 4)]
    _say("Against an engine that costs nothing …")
    async with running_zero_delay_engine() as engine:
        settings = {"TRIPLANE_ENGINE_URL": engine.url}
        async with running_stack(folder / "nothing", settings, ZERO_DELAY) as stack:
            costs = await against_nothing.measure(stack, engine, Load())
            counted = await round_trips.measure(stack, engine)
            engine.cadence_s = 0.0
            long = await long_conversation.measure(stack)
        _say("Many slow streams …")
        slow: dict[str, SlowStreams] = {}
        for way in WAYS:
            async with running_stack(folder / way, settings, ZERO_DELAY) as stack:
                slow[way] = await slow_streams.measure(stack, engine, way)
    return _Measured(engine=measured, cost=costs, round_trips=counted, slow=slow, long=long)


def _tell(measured: _Measured) -> None:
    now = datetime.now(UTC)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    tables = (
        table(measured.engine, measured.cost, machine),
        round_trips_table(measured.round_trips),
        slow_streams_table(measured.slow),
        long_table(measured.long),
    )
    sys.stdout.write("\n".join(tables))
    RESULTS.mkdir(exist_ok=True)
    result = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine,
        **msgspec.to_builtins(measured),
    }
    file = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    sys.stdout.write(f"\nThe numbers are in {file}.\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
