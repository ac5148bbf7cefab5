"""One completion over engines that fail by script: retries, routes, continuation, timeouts, cascade, bills.

Every test runs on a clock that jumps, so that timeouts and pauses take no time.
"""

import asyncio

import pytest

from instant_loop import now, run_instantly, settle
from scripted_engines import (
    HANG,
    PROMPT_TOKENS,
    Scene,
    Script,
    ScriptedEngine,
    ScriptedPrefillEngine,
    Told,
    ask,
    complete,
    refuses,
    says,
    scene,
    sure,
)
from triplane.domain.completion import CompletionRequest, Message
from triplane.domain.errors import (
    ContextTooLong,
    EngineFailed,
    EngineUnavailable,
    FirstTokenTimeout,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    TriplaneError,
)
from triplane.domain.events import Delta, Failed, Finished, Started, ToolCallDelta, Usage

DOWN = EngineUnavailable("down")
BROKEN = EngineFailed("broken")
LONG = ContextTooLong("too long")


def told(of: Scene, request: CompletionRequest | None = None) -> Told:
    """The completion of one request, after which nothing may be left."""

    async def ask_once() -> Told:
        result = await complete(of.gateway, request or ask())
        of.assert_nothing_is_left()
        return result

    return run_instantly(ask_once())


def refused(of: Scene, request: CompletionRequest | None = None) -> TriplaneError:
    async def ask_once() -> TriplaneError:
        with pytest.raises(TriplaneError) as error:
            await complete(of.gateway, request or ask())
        of.assert_nothing_is_left()
        return error.value

    return run_instantly(ask_once())


def engines_of(*scripts: Script, count: int = 1) -> list[ScriptedEngine]:
    return [ScriptedEngine(*scripts) for _ in range(count)]


def test_a_whole_answer_is_relayed_and_billed_once() -> None:
    seen = told(scene({"a": ScriptedEngine(says("He", "llo"))}))

    usage = Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=2)
    assert seen.events == [
        Started(engine="a-0", model="model of a-0"),
        Delta(text="He"),
        Delta(text="llo"),
        Finished(reason="stop", usage=usage),
    ]
    [call] = seen.calls
    assert (call.attempt, call.route, call.replica, call.usage) == (1, "a", "a-0", usage)
    assert call.cost == PROMPT_TOKENS * 1000 + 2 * 2000


def test_a_refused_call_is_made_again_on_another_replica() -> None:
    one, other = ScriptedEngine(refuses(DOWN)), ScriptedEngine(refuses(DOWN))
    of = scene({"a": [one, other]}, settings={"a": {"retries": 1}})

    assert refused(of) is DOWN
    assert (len(one.requests), len(other.requests)) == (1, 1)
    assert of.bills.retries == [("a", "engine_unavailable")]


def test_a_route_makes_as_many_further_calls_as_it_says_and_then_the_next_route_is_asked() -> None:
    bad, good = ScriptedEngine(refuses(BROKEN)), ScriptedEngine(says("ok"))
    of = scene({"a": bad, "b": good}, settings={"a": {"retries": 2}})

    seen = told(of)

    assert seen.routes == ["a", "a", "a", "b"]
    assert [call.attempt for call in seen.calls] == [1, 2, 3, 4]
    assert [call.cost for call in seen.calls[:3]] == [0, 0, 0]
    assert of.bills.retries == [("a", "engine_failed"), ("a", "engine_failed"), ("b", "engine_failed")]


def test_a_replica_that_is_asked_again_gets_a_pause_and_a_fresh_one_does_not() -> None:
    fresh = scene({"a": engines_of(refuses(DOWN), count=2)}, settings={"a": {"retries": 1}})
    again = ScriptedEngine(refuses(DOWN), says("ok"))

    refused(fresh)
    told(scene({"a": again}))

    times = [time for engine in fresh.engines.values() for time in engine.asked_at]
    assert times == [0.0, 0.0]
    assert again.asked_at[1] > 0


def test_before_the_first_token_a_broken_stream_is_made_again_and_the_client_sees_one_start() -> None:
    seen = told(scene({"a": ScriptedEngine(says(BROKEN), says("ok"))}))

    assert [type(event) for event in seen.events] == [Started, Delta, Finished]
    assert seen.text == "ok"
    assert len(seen.calls) == 2


def test_what_is_wrong_with_the_request_is_not_tried_again() -> None:
    wrong = InvalidRequest("wrong", param="top_p")
    of = scene({"a": ScriptedEngine(refuses(wrong)), "b": ScriptedEngine()})

    assert refused(of) is wrong
    assert of.bills.codes == ["invalid_request"]


def test_a_prompt_too_long_goes_to_a_route_with_a_larger_context_only() -> None:
    same, larger = ScriptedEngine(says("no")), ScriptedEngine(says("yes"))
    of = scene(
        {"a": ScriptedEngine(refuses(LONG)), "same": same, "larger": larger},
        settings={"larger": {"context_length": 2000}},
    )

    assert told(of).text == "yes"
    assert same.requests == []


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((DOWN, LONG), EngineUnavailable),
        ((LONG, DOWN), EngineUnavailable),
        ((ModelNotFound("no"), LONG), ContextTooLong),
        ((BROKEN, DOWN), EngineUnavailable),
        ((Overloaded("full", retry_after_s=3), DOWN), Overloaded),
        ((DOWN, Overloaded("full", retry_after_s=3)), Overloaded),
    ],
)
def test_in_the_end_the_client_is_told_the_most_hopeful_thing(
    errors: tuple[TriplaneError, TriplaneError], kind: type[TriplaneError]
) -> None:
    routes = {name: ScriptedEngine(refuses(error)) for name, error in zip("ab", errors, strict=True)}
    settings = {"a": {"retries": 0}, "b": {"retries": 0, "context_length": 2000}}

    assert isinstance(refused(scene(routes, settings=settings)), kind)


def test_of_two_busy_routes_the_shorter_wait_is_told() -> None:
    routes = {
        name: ScriptedEngine(refuses(Overloaded("full", retry_after_s=wait_s)))
        for name, wait_s in (("a", 30.0), ("b", 5.0))
    }

    error = refused(scene(routes))

    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 5.0


def test_a_busy_replica_is_left_alone_for_as_long_as_it_asked() -> None:
    busy = ScriptedEngine(refuses(Overloaded("full", retry_after_s=7)), says("back"))
    of = scene({"a": busy})

    async def ask_thrice() -> str:
        for wait_s, left_s in ((0.0, 7.0), (6.5, 0.5)):
            await asyncio.sleep(wait_s)
            with pytest.raises(Overloaded) as error:
                await complete(of.gateway, ask())
            assert error.value.retry_after_s == pytest.approx(left_s)
        await asyncio.sleep(0.5)
        return (await complete(of.gateway, ask())).text

    assert run_instantly(ask_thrice()) == "back"
    assert len(busy.requests) == 2


def test_a_busy_replica_is_no_failed_one() -> None:
    busy = ScriptedEngine(refuses(Overloaded("full", retry_after_s=1)))
    of = scene({"a": busy})

    async def ask_often() -> None:
        for _ in range(10):
            with pytest.raises(Overloaded):
                await complete(of.gateway, ask())
            await asyncio.sleep(1)
        assert of.gateway.fleet()[0].replicas[0].state == "closed"

    run_instantly(ask_often())

    assert len(busy.requests) == 10


def test_the_retry_budget_ends_the_retries_of_a_brown_out() -> None:
    bad, spare = ScriptedEngine(refuses(Overloaded("full", retry_after_s=0.0))), ScriptedEngine()
    of = scene({"a": bad, "b": spare}, settings={"a": {"retries": 10}})

    async def flood() -> None:
        for _ in range(100):
            await complete(of.gateway, ask())

    run_instantly(flood())

    assert 100 < len(bad.requests) <= 100 + 10 + 100 * 0.2 + 1


def test_a_dead_route_is_passed_over_at_once_and_tried_when_it_is_back() -> None:
    dead, spare = ScriptedEngine(*[refuses(DOWN)] * 5, says("back")), ScriptedEngine(says("spare"))
    dead.is_well = False
    of = scene({"a": dead, "b": spare}, settings={"a": {"retries": 0}})

    async def live_through() -> list[str]:
        texts = [(await complete(of.gateway, ask())).text for _ in range(7)]
        await of.gateway.look()
        texts.append((await complete(of.gateway, ask())).text)
        dead.is_well = True
        await of.gateway.look()
        texts.append((await complete(of.gateway, ask())).text)
        return texts

    assert run_instantly(live_through()) == ["spare"] * 8 + ["back"]
    assert len(dead.requests) == 6


def test_who_waits_for_a_route_that_goes_down_is_served_by_the_next_one() -> None:
    first = ScriptedEngine(*[refuses(DOWN)] * 4, says(HANG), says("never"))
    spare = ScriptedEngine(says("spare"))
    of = scene({"a": first, "b": spare}, settings={"a": {"retries": 0, "slots": 1, "max_wait_s": 1000}})

    async def wait_and_see() -> tuple[str, float]:
        for _ in range(4):
            await complete(of.gateway, ask())
        holding = await of.gateway.complete(ask())
        waiting = asyncio.create_task(complete(of.gateway, ask()))
        await settle()
        await holding.take_events()
        first.is_well = False
        first.streams[-1].abort(DOWN)
        await holding.take_events()
        await of.gateway.look()
        text = (await waiting).text
        await holding.aclose()
        return text, now()

    text, at = run_instantly(wait_and_see())

    assert text == "spare"
    assert at < 10


def test_an_engine_that_always_drops_its_answers_is_left_alone_in_the_end() -> None:
    of = scene(
        {"a": ScriptedEngine(says("text", BROKEN))}, settings={"a": {"retries": 0, "abilities": ["tools"]}}
    )

    async def ask_often() -> list[str]:
        codes = []
        for _ in range(6):
            try:
                last = (await complete(of.gateway, ask())).last
                codes.append(last.code if isinstance(last, Failed) else "finished")
            except EngineUnavailable as error:
                codes.append(f"raised {error.code}")
        return codes

    assert run_instantly(ask_often()) == ["engine_failed"] * 5 + ["raised engine_unavailable"]


def test_after_shown_text_the_next_engine_goes_on_from_the_last_word() -> None:
    second = ScriptedEngine(says(", world", reason="length"))
    of = scene({"a": ScriptedEngine(says("Hel", "lo", BROKEN)), "b": second}, settings={"a": {"retries": 0}})

    seen = told(of, ask(max_tokens=10))

    assert seen.text == "Hello, world"
    assert [type(event) for event in seen.events] == [Started, Delta, Delta, Delta, Finished]
    [request] = second.requests
    assert request.messages[-1] == Message(role="assistant", content="Hello")
    assert request.continue_final_message
    assert request.sampling.max_tokens == 8
    assert isinstance(seen.last, Finished)
    assert seen.last.usage == sum((call.usage for call in seen.calls), Usage())
    assert seen.last.reason == "length"


def test_text_is_never_repeated_however_often_engines_break() -> None:
    pieces = [says("a", "b", BROKEN), says(BROKEN), says("c", BROKEN), says("d")]
    engine = ScriptedEngine(*pieces)
    of = scene({"a": engine}, settings={"a": {"retries": 5}})

    seen = told(of, ask(max_tokens=100))

    assert seen.text == "abcd"
    assert [str(each.messages[-1].content) for each in engine.requests] == ["Hi", "ab", "ab", "abc"]
    assert [each.sampling.max_tokens for each in engine.requests] == [100, 98, 98, 97]
    assert len(seen.calls) == 4


def test_an_answer_that_was_a_continuation_already_goes_on_from_all_of_it() -> None:
    second = ScriptedEngine(says("!"))
    of = scene({"a": ScriptedEngine(says("lo", BROKEN)), "b": second}, settings={"a": {"retries": 0}})
    messages = [Message(role="user", content="Hi"), Message(role="assistant", content="Hel")]

    seen = told(of, ask(messages=messages, continue_final_message=True))

    assert seen.text == "lo!"
    assert second.requests[0].messages == [messages[0], Message(role="assistant", content="Hello")]


def test_pieces_of_several_tokens_leave_as_many_fewer_for_the_rest() -> None:
    second = ScriptedEngine(says("!"))
    first = ScriptedEngine(says("four tokens", "four more", BROKEN, tokens_each=4))
    of = scene({"a": first, "b": second}, settings={"a": {"retries": 0}})

    told(of, ask(max_tokens=10))

    assert second.requests[0].sampling.max_tokens == 2


@pytest.mark.parametrize(
    "first",
    [
        says("text", BROKEN),
        says(ToolCallDelta(index=0, id="call_1", name="f"), BROKEN),
        says("text", reason=None),
    ],
    ids=["no engine can go on", "tools were called", "the end is missing"],
)
def test_an_answer_that_cannot_go_on_ends_as_failed_with_what_it_cost(first: Script) -> None:
    can_go_on = isinstance(first.steps[0], ToolCallDelta)
    abilities = ["tools", "continuation"] if can_go_on else ["tools"]
    spare = ScriptedEngine(says("never"))
    settings = {name: {"retries": 3, "abilities": abilities} for name in "ab"}
    of = scene({"a": ScriptedEngine(first), "b": spare}, settings=settings)

    seen = told(of)

    assert isinstance(seen.last, Failed)
    assert (seen.last.code, seen.last.retryable) == ("engine_failed", True)
    assert seen.last.usage == Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=1)
    assert spare.requests == []


def test_a_route_that_cannot_continue_is_skipped_without_a_retry() -> None:
    plain, second = ScriptedEngine(says("He", BROKEN)), ScriptedEngine(refuses(DOWN), says("llo"))
    of = scene(
        {"a": plain, "b": second},
        settings={"a": {"retries": 5, "abilities": ["tools"]}, "b": {"retries": 1}},
    )

    assert told(of).text == "Hello"
    assert (len(plain.requests), len(second.requests)) == (1, 2)


def test_when_nobody_can_go_on_the_first_failure_is_what_is_told() -> None:
    of = scene(
        {"a": ScriptedEngine(says("text", BROKEN)), "b": ScriptedEngine(refuses(DOWN))},
        settings={"a": {"retries": 0}, "b": {"retries": 0}},
    )

    last = told(of).last

    assert isinstance(last, Failed)
    assert last.code == "engine_failed"


def test_nothing_comes_behind_the_end() -> None:
    end = Finished(reason="stop", usage=Usage())

    seen = told(scene({"a": ScriptedEngine(says([Delta(text="a"), end, Delta(text="b"), end]))}))

    assert seen.text == "a"
    assert [type(event) for event in seen.events] == [Started, Delta, Finished]


def test_the_whole_time_of_an_answer_bounds_all_of_its_calls_together() -> None:
    timeouts = {"first_token_s": 4, "total_s": 10}
    slow = ScriptedEngine(says(HANG))
    of = scene({"a": slow}, settings={"a": {"retries": 9, "timeouts": timeouts}})

    async def ask_once() -> float:
        seen = await complete(of.gateway, ask())
        assert isinstance(seen.last, Failed)
        of.assert_nothing_is_left()
        return now()

    assert run_instantly(ask_once()) == pytest.approx(10, abs=0.01)


def test_an_answer_that_takes_its_whole_time_is_no_failure_of_its_engine() -> None:
    timeouts = {"inter_token_s": 100, "total_s": 10}
    of = scene({"a": ScriptedEngine(says("text", HANG))}, settings={"a": {"timeouts": timeouts}})

    async def ask_often() -> None:
        for _ in range(6):
            last = (await complete(of.gateway, ask())).last
            assert isinstance(last, Failed)
            assert last.code == "stream_stalled"
        assert of.gateway.fleet()[0].replicas[0].state == "closed"

    run_instantly(ask_often())


def test_waiting_for_a_slot_counts_as_time_of_the_answer() -> None:
    settings = {"a": {"slots": 1, "max_wait_s": 100, "timeouts": {"total_s": 20}}}
    of = scene({"a": ScriptedEngine(says(HANG))}, settings=settings)

    async def wait_behind() -> float:
        holding = await of.gateway.complete(ask())
        with pytest.raises(EngineUnavailable):
            await complete(of.gateway, ask())
        ended_at = now()
        await holding.aclose()
        of.assert_nothing_is_left()
        return ended_at

    assert run_instantly(wait_behind()) == pytest.approx(20)


def test_an_engine_that_takes_a_request_and_says_nothing_is_given_up() -> None:
    timeouts = {"first_token_s": 3}
    hangs = [Script(start_hangs=True), says(HANG)]
    of = scene(
        {"a": ScriptedEngine(*hangs), "b": ScriptedEngine(says("ok"))},
        settings={"a": {"retries": 1, "timeouts": timeouts}},
    )

    assert told(of).text == "ok"
    assert of.bills.codes == ["first_token_timeout", "first_token_timeout", None]


def test_an_engine_that_never_begins_is_told_as_such() -> None:
    of = scene({"a": ScriptedEngine(Script(start_hangs=True))}, settings={"a": {"retries": 0}})

    assert isinstance(refused(of), FirstTokenTimeout)


def test_a_sure_cheap_answer_is_shown_without_its_probabilities() -> None:
    cheap, dear = ScriptedEngine(says(sure("a"), sure("b"), sure("c"))), ScriptedEngine(says("dear"))
    of = scene({"cheap": cheap, "dear": dear}, cascade={"route": "cheap", "probe_tokens": 2})

    seen = told(of)

    assert seen.events[1:4] == [Delta(text="a"), Delta(text="b"), Delta(text="c")]
    assert cheap.requests[0].sampling.logprobs
    assert dear.requests == []


def test_an_unsure_cheap_answer_is_hidden_and_billed() -> None:
    cheap, dear = ScriptedEngine(says(sure("um", -3), HANG)), ScriptedEngine(says("Surely."))
    of = scene({"cheap": cheap, "dear": dear}, cascade={"route": "cheap", "probe_tokens": 1})

    seen = told(of)

    assert seen.text == "Surely."
    assert seen.events[0] == Started(engine="dear-0", model="model of dear-0")
    assert seen.routes == ["cheap", "dear"]
    assert seen.calls[0].usage.completion_tokens == 1
    assert dear.requests[0].sampling.logprobs is None


@pytest.mark.parametrize("cheap", [refuses(DOWN), says(BROKEN), says(sure("a"), BROKEN)])
def test_a_cheap_route_that_fails_is_no_judge_of_the_next_one(cheap: Script) -> None:
    dear = ScriptedEngine(says(sure("not", -3), sure("sure", -3)))
    of = scene(
        {"cheap": ScriptedEngine(cheap), "dear": dear},
        settings={"cheap": {"retries": 0}},
        cascade={"route": "cheap", "probe_tokens": 2},
    )

    seen = told(of)

    assert seen.text == "notsure"
    assert isinstance(seen.last, Finished)
    assert dear.requests[0].sampling.logprobs is None
    assert seen.events[0] == Started(engine="dear-0", model="model of dear-0")


def test_pieces_that_come_together_with_the_verdict_are_all_shown() -> None:
    cheap = ScriptedEngine(says([Delta(text="a"), Delta(text="b"), Delta(text="c")]))
    of = scene({"cheap": cheap, "dear": ScriptedEngine()}, cascade={"route": "cheap"})

    assert told(of).text == "abc"


def test_an_escalation_that_fails_ends_the_answer_with_a_start_and_an_end() -> None:
    of = scene(
        {"cheap": ScriptedEngine(says(sure("um", -3))), "dear": ScriptedEngine(refuses(DOWN))},
        settings={"dear": {"retries": 0}},
        cascade={"route": "cheap", "probe_tokens": 1},
    )

    assert [type(event) for event in told(of).events] == [Started, Failed]


def test_a_prefill_pool_reads_the_prompt_and_the_decoding_engine_fetches_it() -> None:
    prefill, decode = ScriptedPrefillEngine(), ScriptedEngine(says("a", "b"))
    of = scene({"a": decode}, prefill=prefill)

    seen = told(of)

    assert decode.hints[0].kv_transfer == {"remote": "prefill"}
    assert [call.replica for call in seen.calls] == ["prefill", "a-0"]
    assert seen.calls[0].usage == Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=1)
    assert seen.calls[1].usage == Usage(completion_tokens=2)


@pytest.mark.parametrize("script", [refuses(DOWN), Script(start_hangs=True)])
def test_without_its_prefill_pool_the_decoding_engine_reads_the_prompt(script: Script) -> None:
    decode = ScriptedEngine(says("a"))
    of = scene({"a": decode}, prefill=ScriptedPrefillEngine(script))

    seen = told(of)

    assert decode.hints[0].kv_transfer is None
    assert [call.cost for call in seen.calls] == [0, PROMPT_TOKENS * 1000 + 2000]


def test_a_prompt_that_the_prefill_refuses_is_refused_and_the_call_counted() -> None:
    wrong = InvalidRequest("wrong")
    of = scene({"a": ScriptedEngine()}, prefill=ScriptedPrefillEngine(refuses(wrong)))

    assert refused(of) is wrong
    assert of.bills.codes == ["invalid_request"]


def test_two_prefills_at_once_do_not_take_the_same_last_slot() -> None:
    decode = engines_of(says("a"), count=2)
    of = scene({"a": decode}, prefill=ScriptedPrefillEngine(), settings={"a": {"slots": 1}})

    async def ask_both() -> None:
        both = await asyncio.gather(*(of.gateway.complete(ask(affinity="same")) for _ in range(2)))
        assert [each.in_flight for each in of.gateway.fleet()[0].replicas] == [1, 1, 0]
        for each in both:
            await each.aclose()

    run_instantly(ask_both())


def test_priorities_of_plans_reach_the_engine() -> None:
    engine = ScriptedEngine()
    of = scene({"a": engine}, plans={"pro": {"priority": 1}, "default": {"priority": 9}})

    told(of, ask(plan="pro"))
    told(of, ask(plan="unheard of"))

    assert [hints.priority for hints in engine.hints] == [1, 9]
