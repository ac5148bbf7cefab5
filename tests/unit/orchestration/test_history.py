"""What prompts begin with over many turns: the same until a cut, and what is cut is told in short."""

import random
import re
from itertools import pairwise
from typing import Literal

import msgspec
import pytest

from triplane.domain.completion import CompletionRequest, Message, Sampling, text_of
from triplane.domain.errors import EngineFailed
from triplane.domain.events import Delta, Failed, Finished, Started, Usage
from triplane.orchestration.asks import Ask
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.following import FollowDeps, follow_turn
from triplane.orchestration.ports import Job, TurnResult
from triplane.orchestration.summaries import SUMMARISE, SummaryDeps, SummaryJob, summarise
from triplane.orchestration.turn import TurnDeps, accept_turn
from turn_fakes import WHO, MemoryHistory, MemoryLog, MemoryTurns, MemoryUsage, MemoryWindow, ScriptedGateway

Worker = Literal["prompt", "late", "down"]


class Talk:
    """A conversation with a model of 400 tokens, whose tokens are words."""

    def __init__(self, worker: Worker = "prompt") -> None:
        self.worker = worker
        self.gateway, self.usage = ScriptedGateway(context_length=400), MemoryUsage()
        self.turns, self.log, self.window = MemoryTurns(), MemoryLog(), MemoryWindow()
        self.history = MemoryHistory(self.turns)
        self.prompts: list[list[Message]] = []
        self.waiting: list[Job] = []
        self.deps = TurnDeps(
            conversations=None,  # type: ignore[arg-type]  # a turn asks it nothing
            turns=self.turns,
            hot_window=self.window,
            history=self.history,
            log=self.log,
            gateway=self.gateway,
            usage=self.usage,
            running=BackgroundTasks(),
            system_policy="Be kind.",
            owner="me",
        )

    async def turn(self, question: int, answer: int) -> TurnResult:
        """One turn whose question and answer have so many words."""
        number = len(self.prompts)
        self._answers(f"a{number} " * answer)
        text = f"q{number} " * question
        ask = Ask(
            who=WHO,
            conversation_id=self.turns.conversation.id,
            request_id=f"req-{number}",
            body_sha256=b"",
            template=CompletionRequest(
                request_id=f"req-{number}",
                model="model",
                messages=[Message(role="user", content=text)],
                sampling=Sampling(max_tokens=50),
            ),
            system=[],
        )
        opened = await accept_turn(ask, self.deps)
        follow = FollowDeps(turns=self.turns, log=self.log)
        async for _ in follow_turn(WHO, opened.turn_id, 0, follow):
            pass
        await self.deps.running.aclose(5)
        self.prompts.append(self.gateway.requests[-1].messages)
        result = self.turns.results[-1]
        await self._work([job for job in result.jobs if job.entrypoint == SUMMARISE])
        return result

    def _answers(self, text: str) -> None:
        usage = Usage(prompt_tokens=1, completion_tokens=len(text.split()))
        self.gateway.events = [
            Started(engine="scripted", model="model"),
            Delta(text=text),
            Finished(reason="stop", usage=usage),
        ]

    async def _work(self, jobs: list[Job]) -> None:
        """The job worker: at once, one turn later, or not at all."""
        if self.worker == "prompt":
            await self.run_jobs(jobs)
        elif self.worker == "late":
            due, self.waiting = self.waiting, jobs
            await self.run_jobs(due)

    async def run_jobs(self, jobs: list[Job]) -> None:
        deps = SummaryDeps(history=self.history, gateway=self.gateway, usage=self.usage)
        for job in jobs:
            self._answers(f"Summary {len(self.history.summaries)}.")
            await summarise(msgspec.json.decode(job.payload, type=SummaryJob), deps)


async def talk(
    worker: Worker, seed: int, *, longest: int = 40, losing_windows: bool = False
) -> tuple[Talk, list[TurnResult]]:
    """Sixty turns of changing length."""
    scene, sizes, results = Talk(worker), random.Random(seed), []
    for _ in range(60):
        results.append(await scene.turn(sizes.randint(1, longest), sizes.randint(1, longest)))
        if losing_windows:
            scene.window.window = None
    return scene, results


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("worker", ["prompt", "late", "down"])
async def test_the_prefix_stays_the_same_byte_for_byte_until_a_cut(worker: Worker, seed: int) -> None:
    scene, results = await talk(worker, seed)
    cuts = 0
    for (before, last), (after, result) in pairwise(zip(scene.prompts, results, strict=True)):
        if result.window_from_seq == last.window_from_seq:
            assert msgspec.json.encode(after).startswith(msgspec.json.encode(before)[:-1])
            assert result.window_summary == last.window_summary
        else:
            cuts += 1
    assert 3 < cuts < 30


@pytest.mark.parametrize("seed", range(3))
async def test_prompts_are_the_same_when_every_window_is_lost(seed: int) -> None:
    kept, _ = await talk("prompt", seed)
    lost, _ = await talk("prompt", seed, losing_windows=True)
    assert lost.prompts == kept.prompts
    assert (kept.history.windows_read, lost.history.windows_read) == (0, 59)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("worker", "longest"), [("prompt", 40), ("late", 15)])
async def test_what_is_cut_is_told_in_its_summary(worker: Worker, longest: int, seed: int) -> None:
    scene, results = await talk(worker, seed, longest=longest)
    told = {each.from_message_id: each for each in scene.history.summaries}
    cut = [result for result in results if result.window_from_seq != 1]
    assert len(cut) > 20
    for result, prompt in zip(results[-len(cut) :], scene.prompts[-len(cut) :], strict=True):
        assert result.window_summary
        summary = told[result.window_summary]
        assert summary.upto_seq + 1 == result.window_from_seq
        assert text_of(prompt[0].content).endswith(summary.text)


async def test_a_worker_that_returns_tells_all_that_was_cut_meanwhile() -> None:
    scene, results = await talk("down", 1)
    assert {result.window_summary for result in results} == {None}
    scene.worker = "prompt"

    while not results[-1].window_summary:
        results.append(await scene.turn(30, 30))

    first, *_ = scene.history.summaries
    asked = [text_of(each.messages[-1].content) for each in scene.gateway.requests if len(each.messages) == 2]
    assert any("q0 q0" in text for text in asked), "the first message, cut long ago"
    assert first.upto_seq > 100


async def test_each_summary_builds_on_the_one_before_and_is_metered() -> None:
    scene, _ = await talk("prompt", 2)
    made = [each for each in scene.gateway.requests if "Notes so far" in text_of(each.messages[-1].content)]
    asked = [text_of(each.messages[-1].content) for each in made]
    before = [re.findall(r"Notes so far:\nSummary (\d+)", text) for text in asked]
    assert before[0] == []
    bases = sorted({int(number) for numbers in before for number in numbers})
    assert bases == list(range(len(bases)))
    assert len(bases) > 5
    questions = [number for text in asked for number in re.findall(r"User: q(\d+)", text)]
    assert questions == [str(number) for number in range(len(questions))], "each message is told once"
    assert {each.request_id for each in made} <= {each.request_id for each in scene.usage.events}


async def test_a_summary_is_made_of_bounded_pieces() -> None:
    scene = Talk("down")
    jobs = [job for _ in range(30) for job in (await scene.turn(90, 40)).jobs if job.entrypoint == SUMMARISE]
    before = len(scene.gateway.requests)

    await scene.run_jobs(jobs[-1:])

    made: list[CompletionRequest] = scene.gateway.requests[before:]
    assert len(made) > 10
    for request in made:
        counts = await scene.gateway.count_tokens("model", request.messages)
        assert sum(counts) + (request.sampling.max_tokens or 0) < 400


async def test_an_engine_that_breaks_off_leaves_no_summary() -> None:
    scene = Talk("down")
    jobs = [job for _ in range(8) for job in (await scene.turn(40, 40)).jobs if job.entrypoint == SUMMARISE]
    scene.gateway.events = [
        Started(engine="scripted", model="model"),
        Delta(text="Half a"),
        Failed(code="engine_failed", message="gone", retryable=True),
    ]
    deps = SummaryDeps(history=scene.history, gateway=scene.gateway, usage=scene.usage)

    with pytest.raises(EngineFailed):
        await summarise(msgspec.json.decode(jobs[0].payload, type=SummaryJob), deps)

    assert not scene.history.summaries
