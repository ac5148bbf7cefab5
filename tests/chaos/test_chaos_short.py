"""The crash suite, short: turns while every part but the engine dies. `make chaos` is the long one."""

import secrets
from pathlib import Path

import pytest

from chaos.report import summary
from chaos.suite import Plan, run


@pytest.mark.timeout(240)
async def test_what_was_shown_is_stored_once_and_in_order_whatever_dies(model_path: Path) -> None:
    plan = Plan(
        seed=secrets.randbits(32),
        turns=24,
        people=8,
        workers=2,
        fault_every_s=(0.2, 0.8),
        longest_pause_s=6.0,
        engine_dies=False,
        most_s=14,
    )
    report = await run(plan, model_path)
    assert report.violations == [], summary(report)
    assert sum(turn.outcome == "complete" for turn in report.turns) >= 1, summary(report)
