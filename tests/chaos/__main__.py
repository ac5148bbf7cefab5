"""`make chaos`: the long run. Its report goes to docs/chaos.md."""

import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path

from chaos.report import summary
from chaos.suite import Plan, run
from engine_fixture import models_dir
from triplane.inference.model_files import pull

REPORT = Path(__file__).parents[2] / "docs" / "chaos.md"
_HEAD = """# The crash suite

`make chaos` runs real processes (PostgreSQL, Redis, the engine, three API workers, the job worker) under
concurrent clients that stream, reconnect, hang up, stop, ask twice and ask again, while processes are killed,
paused and rolled at random instants. Then all that clients were shown is held against what is stored: nothing
shown is missing, nothing came twice, `seq` has no gaps, one turn for each request id, no turn runs for ever,
each attempt is billed once at most. `CHAOS_SEED` and `CHAOS_TURNS` choose another run. The last one:

"""


def main() -> int:
    """The exit status: 1 if anything was violated."""
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbits(32))
    turns = int(os.environ.get("CHAOS_TURNS") or 320)
    plan = Plan(
        seed=seed,
        turns=turns,
        people=24,
        workers=3,
        fault_every_s=(0.5, 3.0),
        longest_pause_s=9.0,
        engine_dies=True,
        most_s=3600,
    )
    model_file = pull("smollm2", models_dir(), lambda _done, _total: None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it ends what it has started
    report = asyncio.run(run(plan, model_file))
    text = summary(report)
    print(text)
    target = Path(os.environ.get("CHAOS_REPORT") or REPORT)
    target.write_text(_HEAD + text.rstrip() + "\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
