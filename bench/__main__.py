"""`python -m bench`: measure, print a table, leave the numbers in bench/results/."""

import argparse
import asyncio
import os
import platform
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import against_engine, against_nothing, long_conversation
from bench.against_engine import AgainstEngine
from bench.against_nothing import Cost, Load
from bench.long_conversation import LongConversation
from bench.report import long_table, table
from bench.stack import running_stack
from bench.zero_delay_engine import MODEL as ZERO_DELAY
from bench.zero_delay_engine import running_zero_delay_engine

RESULTS = Path(__file__).parent / "results"
MODEL = "smollm2"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds against the real engine")
    parser.add_argument("--model-file", type=Path, help="the model's file; fetched if it isn't given")
    parser.add_argument("--skip-engine", action="store_true", help="only what the planes themselves cost")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="triplane-bench-"))
    for part in ("engine", "nothing"):
        (folder / part).mkdir()
    try:
        engine, costs, long = asyncio.run(
            _measure(folder, options.model_file, options.rounds, options.skip_engine)
        )
    except BaseException:
        sys.stderr.write(f"The servers' logs are kept in {folder}.\n")
        raise
    shutil.rmtree(folder)
    _tell(engine, costs, long)


async def _measure(
    folder: Path, model_file: Path | None, rounds: int, skip_engine: bool
) -> tuple[list[AgainstEngine], dict[str, Cost], LongConversation]:
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
            engine.cadence_s = 0.0
            return measured, costs, await long_conversation.measure(stack)


def _tell(engine: list[AgainstEngine], costs: dict[str, Cost], long: LongConversation) -> None:
    now = datetime.now(UTC)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    sys.stdout.write(table(engine, costs, machine) + "\n" + long_table(long))
    RESULTS.mkdir(exist_ok=True)
    result = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine,
        "against_engine": [msgspec.to_builtins(each) for each in engine],
        "cost": msgspec.to_builtins(costs),
        "long_conversation": msgspec.to_builtins(long),
    }
    file = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    sys.stdout.write(f"\nThe numbers are in {file}.\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
