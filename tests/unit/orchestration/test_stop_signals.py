"""Stopping a turn that another process runs."""

from dataclasses import replace

from test_turn import Scene

from triplane.orchestration.turn import accept_turn, stop_turn
from turn_fakes import WHO


class Recorded:
    """Stop signals that go nowhere."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, turn_id: str) -> None:
        self.sent.append(turn_id)


async def test_a_turn_that_does_not_run_here_is_stopped_by_a_signal_to_all() -> None:
    scene, signals = Scene(), Recorded()
    opened = await accept_turn(scene.ask(), scene.deps)
    await scene.followed(opened.turn_id)
    await scene.deps.running.aclose(5)
    await stop_turn(WHO, opened.turn_id, replace(scene.deps, signals=signals))
    assert signals.sent == [opened.turn_id]
