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
concurrent clients that stream, reconnect, hang up, stop, ask twice, ask again, continue, regenerate and edit,
while processes are killed (`kill -9`), paused and rolled at random instants. What ends is started again, as a
service manager does. `make test` has a run of half a minute in which the engine lives. `CHAOS_SEED` and
`CHAOS_TURNS` choose another run; the same seed gives the same clients and faults, not the same instants.

## How it is read

All that clients were shown is held against what is stored. A violation is any of these:

- text that was shown and isn't stored, came twice or out of order, or an end told otherwise than it is kept;
- `seq` with a gap, a message without its parent, an edit or another answer in a wrong place;
- two turns for one request id, a turn that runs for ever, a client that never came to an end;
- more bills of a turn than it had owners, or a turn that says more tokens than its bills;
- tokens billed beyond what the engine counted. This is exact while the engine lives; one that is killed takes
  its count of what ran in it along, four answers at most;
- tokens computed beyond what is billed, but for what no process could know: of an attempt that another owner
  went on with, what its process hadn't written when it was killed, at most what the attempt was still allowed
  (of a title, all of it); and of an answer that was cut off, what the engine computed before it noticed (two
  tokens on an idle machine, twelve are let pass);
- a process that ended by itself, or that was told to end and didn't within half a minute.

What isn't one: a turn that `failed` because its engine was killed before the first token, and a request that
is refused for as long as a store or the engine is away. The report counts them.

## The last run

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
