"""The turn's own logic, from accepting it to its end, against small in-memory stores."""

import asyncio

import msgspec
import pytest

from gateways import engine_call
from triplane.domain.completion import CompletionRequest, Message, Sampling
from triplane.domain.conversation import TurnSettings
from triplane.domain.errors import ContextTooLong, EngineUnavailable, ModelNotFound, StoreUnavailable
from triplane.domain.events import (
    Delta,
    EngineEvent,
    Failed,
    Finished,
    LogEntry,
    Started,
    ToolCallDelta,
    TurnEnded,
    TurnStarted,
    Usage,
)
from triplane.orchestration.asks import Ask
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.ending import call_usage_id
from triplane.orchestration.following import FollowDeps, follow_turn
from triplane.orchestration.ports import HeldTurn, LapsedTurn, LoggedAttempt
from triplane.orchestration.recovery import take_over_lapsed
from triplane.orchestration.turn import TurnDeps, accept_turn, stop_turn
from turn_fakes import WHO, MemoryHistory, MemoryLog, MemoryTurns, MemoryUsage, MemoryWindow, ScriptedGateway

USAGE = Usage(prompt_tokens=12, completion_tokens=2, cached_tokens=3)
ANSWER: list[EngineEvent] = [
    Started(engine="scripted", model="model"),
    Delta(text="Hel"),
    Delta(text="lo."),
    Finished(reason="stop", usage=USAGE),
]


class NoConversations:
    """A turn asks it nothing."""


class Scene:
    def __init__(self, events: list[EngineEvent] | None = None) -> None:
        self.gateway = ScriptedGateway(ANSWER if events is None else events)
        self.turns, self.log, self.window = MemoryTurns(), MemoryLog(), MemoryWindow()
        self.history, self.usage = MemoryHistory(self.turns), MemoryUsage()
        self.deps = TurnDeps(
            conversations=NoConversations(),  # type: ignore[arg-type]
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

    def ask(self, text: str = "Hi", request_id: str = "req-1", model: str = "model") -> Ask:
        return Ask(
            who=WHO,
            conversation_id=self.turns.conversation.id,
            request_id=request_id,
            body_sha256=b"",
            template=CompletionRequest(
                request_id=request_id,
                model=model,
                messages=[Message(role="user", content=text)],
                sampling=Sampling(max_tokens=50),
            ),
            system=[],
        )

    async def run(self, ask: Ask | None = None) -> list[LogEntry]:
        opened = await accept_turn(ask or self.ask(), self.deps)
        return await self.followed(opened.turn_id)

    async def followed(self, turn_id: str, after: int = 0) -> list[LogEntry]:
        deps = FollowDeps(turns=self.turns, log=self.log)
        async with asyncio.timeout(5):
            return [entry async for entry in follow_turn(WHO, turn_id, after, deps)]


async def test_a_turn_is_logged_in_order_and_stored_once() -> None:
    scene = Scene()
    entries = await scene.run()
    assert [entry.position for entry in entries] == [1, 2, 3, 4, 5]
    assert isinstance(entries[0].event, TurnStarted)
    assert entries[-1].event == TurnEnded(status="complete", finish_reason="stop", usage=USAGE)
    (result,) = scene.turns.results
    assert (result.status, result.content, result.finish_reason) == ("complete", "Hello.", "stop")
    assert [event.call.usage for event in result.usage_events] == [USAGE]


async def test_the_prompt_is_policy_then_history_then_the_new_message() -> None:
    scene = Scene()
    await scene.run(scene.ask("Hi", "req-1"))
    await scene.run(scene.ask("And now?", "req-2"))
    texts = [(message.role, message.content) for message in scene.gateway.requests[-1].messages]
    assert texts == [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello."), ("user", "And now?")]
    assert scene.history.windows_read == 0


async def test_a_lost_hot_window_is_rebuilt_from_the_store() -> None:
    scene = Scene()
    await scene.run(scene.ask("Hi", "req-1"))
    scene.window.window = None
    await scene.run(scene.ask("And now?", "req-2"))
    assert scene.history.windows_read == 1
    assert [message.content for message in scene.gateway.requests[-1].messages][1:3] == ["Hi", "Hello."]


async def test_a_hot_window_that_ends_elsewhere_is_not_used() -> None:
    scene = Scene()
    await scene.run(scene.ask("Hi", "req-1"))
    assert scene.window.window
    scene.window.window = msgspec.structs.replace(scene.window.window, leaf_id="msg_other")
    await scene.run(scene.ask("And now?", "req-2"))
    assert scene.history.windows_read == 1


async def test_a_retry_follows_the_turn_that_runs_already() -> None:
    scene = Scene()
    scene.gateway.waits[2] = asyncio.Event()
    first = await accept_turn(scene.ask(), scene.deps)
    again = await accept_turn(scene.ask(), scene.deps)
    scene.gateway.waits[2].set()
    assert again.turn_id == first.turn_id
    assert await scene.followed(again.turn_id) == await scene.followed(first.turn_id)
    assert len(scene.gateway.requests) == 1


async def test_stopping_before_the_first_token_ends_the_engines_work() -> None:
    scene = Scene()
    scene.gateway.waits[0] = asyncio.Event()
    opened = await accept_turn(scene.ask(), scene.deps)
    await scene.gateway.called.wait()
    await stop_turn(WHO, opened.turn_id, scene.deps)
    entries = await scene.followed(opened.turn_id)
    assert isinstance(entries[-1].event, TurnEnded)
    assert entries[-1].event.status == "stopped"
    assert scene.gateway.completions[0].closed.is_set()
    assert scene.turns.results[0].status == "stopped"


async def test_stopping_keeps_the_text_that_was_shown() -> None:
    scene = Scene()
    scene.gateway.waits[2] = asyncio.Event()
    opened = await accept_turn(scene.ask(), scene.deps)
    await scene.log.until(opened.turn_id, 2)
    await stop_turn(WHO, opened.turn_id, scene.deps)
    await scene.followed(opened.turn_id)
    assert (scene.turns.results[0].status, scene.turns.results[0].content) == ("stopped", "Hel")


async def test_an_engine_that_breaks_off_leaves_an_incomplete_answer() -> None:
    scene = Scene([*ANSWER[:2], Failed(code="stream_stalled", message="No more tokens.", retryable=True)])
    entries = await scene.run()
    assert isinstance(entries[-1].event, TurnEnded)
    assert entries[-1].event.status == "incomplete"
    assert (scene.turns.results[0].content, scene.turns.results[0].status) == ("Hel", "incomplete")


async def test_a_stream_without_an_end_counts_as_broken_off() -> None:
    scene = Scene(ANSWER[:2])
    await scene.run()
    assert scene.turns.results[0].status == "incomplete"


async def test_an_engine_that_refuses_fails_the_turn_with_its_code() -> None:
    scene = Scene()
    scene.gateway.refusal = EngineUnavailable("The engine is down.")
    entries = await scene.run()
    (ended,) = [entry.event for entry in entries]
    assert isinstance(ended, TurnEnded)
    assert ended.error
    assert ended.error.code == "engine_unavailable"
    assert scene.turns.results[0].status == "failed"


async def test_what_engines_computed_for_a_turn_that_never_began_is_billed() -> None:
    scene = Scene()
    scene.gateway.refusal = EngineUnavailable("The engine is down.")
    scene.gateway.refused_calls = [engine_call(Usage(prompt_tokens=12)), engine_call(attempt=2)]
    await scene.run()

    (result,) = scene.turns.results
    assert [event.call for event in result.usage_events] == scene.gateway.refused_calls[:1]
    assert result.usage == Usage(prompt_tokens=12)


async def test_a_bug_ends_the_turn_as_failed_and_rises() -> None:
    scene = Scene()
    scene.gateway.refusal = ZeroDivisionError()
    opened = await accept_turn(scene.ask(), scene.deps)
    await scene.followed(opened.turn_id)
    assert scene.turns.results[0].error
    assert scene.turns.results[0].error.code == "internal_error"


@pytest.mark.parametrize(
    ("ask", "error"),
    [({"model": "other"}, ModelNotFound), ({"text": "word " * 990}, ContextTooLong)],
)
async def test_what_is_refused_leaves_nothing_behind(ask: dict[str, str], error: type[Exception]) -> None:
    scene = Scene()
    with pytest.raises(error):
        await accept_turn(scene.ask(**ask), scene.deps)
    assert not scene.turns.opened
    assert not len(scene.deps.running)


async def test_an_answer_is_stored_when_the_database_returns() -> None:
    scene = Scene()
    scene.turns.finish_failures = [StoreUnavailable("away"), StoreUnavailable("away")]
    entries = await scene.run()
    assert isinstance(entries[-1].event, TurnEnded)
    assert scene.turns.results[0].content == "Hello."


async def test_a_shutdown_hands_the_turn_over_with_its_text() -> None:
    scene = Scene()
    scene.gateway.waits[2] = asyncio.Event()
    opened = await accept_turn(scene.ask(), scene.deps)
    await scene.log.until(opened.turn_id, 2)
    await scene.deps.running.aclose(grace_s=0)
    assert scene.turns.released == ["Hel"]
    assert not scene.turns.results
    assert scene.gateway.completions[0].closed.is_set()


async def test_an_owner_that_was_overtaken_writes_nothing_more() -> None:
    scene = Scene()
    scene.gateway.waits[2] = asyncio.Event()
    opened = await accept_turn(scene.ask(), scene.deps)
    await scene.log.until(opened.turn_id, 2)
    scene.log.fence = 2
    scene.gateway.waits[2].set()
    await scene.gateway.completions[0].closed.wait()
    await scene.deps.running.aclose(grace_s=5)
    assert len(scene.log.entries[opened.turn_id]) == 2
    assert not scene.turns.results


async def test_a_lapsed_turn_is_continued_from_the_text_that_was_shown() -> None:
    scene = Scene()
    lapsed = await abandoned(scene)
    scene.gateway.events = [ANSWER[0], Delta(text="p!"), ANSWER[-1]]
    assert await take_over_lapsed(scene.deps) == 1
    entries = await scene.followed(lapsed.opened.turn_id)
    assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
    assert "".join(entry.event.text for entry in entries if isinstance(entry.event, Delta)) == "Help!"
    request = scene.gateway.requests[-1]
    assert (request.continue_final_message, request.messages[-1].content) == (True, "Hel")
    assert request.sampling.max_tokens == 49
    assert scene.turns.results[0].content == "Help!"


async def test_a_lapsed_turn_whose_answer_was_whole_is_only_stored() -> None:
    scene = Scene()
    lapsed = await abandoned(scene)
    scene.log.entries[lapsed.opened.turn_id].append(LogEntry(position=3, event=ANSWER[-1]))  # type: ignore[arg-type]
    requests = len(scene.gateway.requests)
    await take_over_lapsed(scene.deps)
    await scene.followed(lapsed.opened.turn_id)
    assert len(scene.gateway.requests) == requests
    assert (scene.turns.results[0].status, scene.turns.results[0].content) == ("complete", "Hel")


async def test_an_attempt_is_billed_once_though_its_successor_died_before_a_word() -> None:
    scene = Scene()
    lapsed = await abandoned(scene)
    calls = [engine_call(USAGE), engine_call(attempt=2), engine_call(USAGE, attempt=3, cost=5)]
    first = LoggedAttempt(fence=1, position=2, calls=calls)
    scene.log.attempts, scene.usage.events = [first], []
    opened = msgspec.structs.replace(lapsed.opened, fence=3)
    scene.turns.lapsed = [msgspec.structs.replace(lapsed, opened=opened)]
    await take_over_lapsed(scene.deps)
    await scene.followed(lapsed.opened.turn_id)
    held = HeldTurn(tenant_id=WHO.tenant_id, turn_id=opened.turn_id, fence=1)
    assert [(event.id, event.call) for event in scene.usage.events] == [
        (call_usage_id(held, call), call) for call in (calls[0], calls[2])
    ]
    assert scene.turns.results[0].earlier_usage == USAGE + USAGE


async def test_an_engine_that_cant_continue_leaves_the_answer_incomplete() -> None:
    scene = Scene()
    scene.gateway.card = msgspec.structs.replace(scene.gateway.card, supports_continuation=False)
    lapsed = await abandoned(scene)
    await take_over_lapsed(scene.deps)
    await scene.followed(lapsed.opened.turn_id)
    assert (scene.turns.results[0].status, scene.turns.results[0].content) == ("incomplete", "Hel")


async def test_a_log_that_was_lost_is_written_again_from_the_row() -> None:
    scene = Scene()
    lapsed = await abandoned(scene)
    scene.log.entries.clear()
    await take_over_lapsed(scene.deps)
    await scene.followed(lapsed.opened.turn_id)
    assert scene.turns.results[0].content.startswith("Hel")


async def test_a_stop_that_its_owner_never_saw_is_kept() -> None:
    scene = Scene()
    lapsed = await abandoned(scene)
    scene.turns.lapsed = [msgspec.structs.replace(lapsed, stop_requested=True)]
    await take_over_lapsed(scene.deps)
    await scene.followed(lapsed.opened.turn_id)
    assert (scene.turns.results[0].status, scene.turns.results[0].content) == ("stopped", "Hel")


async def test_text_that_was_shown_stays_though_the_engine_cant_count_the_instructions() -> None:
    scene = Scene()
    lapsed = await instructed(scene)
    scene.gateway.uncounted = EngineUnavailable("It is away.")
    await take_over_lapsed(scene.deps)
    await scene.followed(lapsed.opened.turn_id)
    assert (scene.turns.results[0].status, scene.turns.results[0].content) == ("incomplete", "Hel")


async def test_a_turn_that_only_has_to_be_stored_needs_no_engine() -> None:
    scene = Scene()
    lapsed = await instructed(scene)
    scene.turns.lapsed = [msgspec.structs.replace(lapsed, stop_requested=True)]
    scene.gateway.uncounted = EngineUnavailable("It is away.")
    await take_over_lapsed(scene.deps)
    await scene.followed(lapsed.opened.turn_id)
    assert (scene.turns.results[0].status, scene.turns.results[0].content) == ("stopped", "Hel")


async def instructed(scene: Scene) -> LapsedTurn:
    """As `abandoned`, in a conversation with instructions."""
    lapsed = await abandoned(scene)
    opened = msgspec.structs.replace(lapsed.opened, settings=TurnSettings(instructions="Rhyme."))
    scene.turns.lapsed = [msgspec.structs.replace(lapsed, opened=opened)]
    return scene.turns.lapsed[0]


async def abandoned(scene: Scene) -> LapsedTurn:
    """A turn whose owner has shown "Hel" and is gone."""
    scene.gateway.waits[2] = asyncio.Event()
    opened = await accept_turn(scene.ask(), scene.deps)
    await scene.log.until(opened.turn_id, 2)
    await scene.deps.running.aclose(grace_s=0)
    scene.gateway.waits.clear()
    lapsed = LapsedTurn(
        request=scene.turns.requests[-1],
        opened=msgspec.structs.replace(opened, fence=2),
        content="Hel",
        log_position=2,
        stop_requested=False,
    )
    scene.turns.lapsed = [lapsed]
    return lapsed


async def test_tool_calls_are_put_together_from_their_pieces() -> None:
    scene = Scene(
        [
            ANSWER[0],
            ToolCallDelta(index=0, id="call_1", name="weather", arguments='{"city":'),
            ToolCallDelta(index=0, arguments='"Bonn"}'),
            Finished(reason="tool_calls", usage=USAGE),
        ]
    )
    await scene.run()
    (call,) = scene.turns.results[0].tool_calls or []
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{"city":"Bonn"}')


async def test_following_from_a_position_gives_what_is_behind_it() -> None:
    scene = Scene()
    entries = await scene.run()
    turn_id = next(iter(scene.turns.opened.values())).turn_id
    for after in range(len(entries)):
        assert await scene.followed(turn_id, after) == entries[after:]


async def test_a_turn_whose_log_is_gone_is_told_from_its_row() -> None:
    scene = Scene()
    await scene.run()
    turn_id = next(iter(scene.turns.opened.values())).turn_id
    scene.log.entries.clear()
    entries = await scene.followed(turn_id)
    assert "".join(entry.event.text for entry in entries if isinstance(entry.event, Delta)) == "Hello."
    assert isinstance(entries[-1].event, TurnEnded)
