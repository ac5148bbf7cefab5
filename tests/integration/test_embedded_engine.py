"""The embedded engine as it is: its counts, its prefix cache, its slots, its key, its life and death."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import aiohttp
import pytest

from engine_fixture import EngineServer, running_engine
from gateways import gateway_of
from triplane.adapters.embedded.llama_cpp import (
    EmbeddedEngineConfig,
    EngineNotReadyError,
    read_state,
    wait_until_ready,
)
from triplane.domain.completion import (
    CompletionRequest,
    FunctionSpec,
    ImagePart,
    ImageUrl,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    ModelCard,
    Sampling,
    Tool,
)
from triplane.domain.errors import EngineUnavailable, InvalidRequest
from triplane.domain.events import Delta, Failed, Finished, Usage
from triplane.inference.engines.llama_cpp import LlamaCppEngine
from triplane.inference.gateway import Gateway
from triplane.inference.model_files import pull
from waiting import until

SETTLE_S = 20.0
PREDICTED = "llamacpp:tokens_predicted_total "


def gateway_to(server: EngineServer) -> Gateway:
    card = ModelCard(
        id=server.model_id,
        context_length=server.context_length,
        owned_by="triplane",
        supports_continuation=True,
    )
    return gateway_of(LlamaCppEngine(server.url, card, api_key=server.api_key))


@pytest.fixture
async def gateway(engine_server: EngineServer) -> AsyncIterator[Gateway]:
    made = gateway_to(engine_server)
    yield made
    await made.close()


def ask(*messages: Message, max_tokens: int = 16, **fields: object) -> CompletionRequest:
    return CompletionRequest(
        request_id="req_test",
        model="smollm2",
        messages=list(messages),
        sampling=Sampling(max_tokens=max_tokens, temperature=0.0),
        **fields,  # type: ignore[arg-type]
    )


def user(text: str) -> Message:
    return Message(role="user", content=text)


async def answer(gateway: Gateway, request: CompletionRequest) -> tuple[str, Usage]:
    async with aclosing(await gateway.complete(request)) as completion:
        events = [event async for event in completion]
    assert isinstance(events[-1], Finished), events[-1]
    return "".join(event.text for event in events if isinstance(event, Delta)), completion.usage


async def busy_slots(server: EngineServer) -> int:
    headers = {"Authorization": f"Bearer {server.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{server.url.removesuffix('/v1')}/slots") as response,
    ):
        return sum(slot["is_processing"] for slot in await response.json())


async def until_idle(server: EngineServer) -> None:
    async def is_idle() -> bool:
        return await busy_slots(server) == 0

    await until(is_idle, SETTLE_S)


async def test_closing_in_the_middle_frees_the_slot(engine_server: EngineServer, gateway: Gateway) -> None:
    completion = await gateway.complete(ask(user("Tell a long story."), max_tokens=1500))
    async for event in completion:
        if isinstance(event, Delta):
            break
    assert await busy_slots(engine_server) == 1

    await completion.aclose()

    await until_idle(engine_server)
    assert 0 < completion.usage.completion_tokens < 100
    assert completion.usage.prompt_tokens > 0


async def test_closing_before_the_first_token_frees_the_slot(
    engine_server: EngineServer, gateway: Gateway
) -> None:
    completion = await gateway.complete(ask(user("apple " * 1900)))
    assert await busy_slots(engine_server) == 1

    await completion.aclose()

    await until_idle(engine_server)
    assert completion.usage.completion_tokens == 0
    assert completion.usage.prompt_tokens < 1900


async def test_a_task_cancelled_while_asking_frees_the_slot(
    engine_server: EngineServer, gateway: Gateway
) -> None:
    running = [await gateway.complete(ask(user(f"Story {n}."), max_tokens=1500)) for n in range(4)]
    waiting = asyncio.create_task(gateway.complete(ask(user("I wait in the queue."))))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done

    waiting.cancel()
    await asyncio.wait([waiting])
    for completion in running:
        await completion.aclose()

    await until_idle(engine_server)


async def counted(server: EngineServer) -> int:
    """The tokens that the engine says it has generated, all of whose slots are idle."""
    await until_idle(server)
    headers = {"Authorization": f"Bearer {server.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{server.url.removesuffix('/v1')}/metrics") as response,
    ):
        lines = (await response.text()).splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith(PREDICTED))


async def test_a_whole_answer_is_billed_as_the_engine_counts_it(
    engine_server: EngineServer, gateway: Gateway
) -> None:
    for text, most in (("Name a colour.", 1), ("Write 🎉 and 你好.", 12), ("Hello!", 40)):
        before = await counted(engine_server)
        _, usage = await answer(gateway, ask(user(text), max_tokens=most))
        assert usage.completion_tokens == await counted(engine_server) - before


async def test_an_answer_that_is_cut_off_is_never_billed_beyond_what_was_computed(
    engine_server: EngineServer, gateway: Gateway
) -> None:
    for deltas in (0, 1, 2, 5):
        before = await counted(engine_server)
        request = ask(user("Tell a long story."), max_tokens=60)
        async with aclosing(await gateway.complete(request)) as completion:
            shown = 0
            while shown < deltas:
                shown += isinstance(await anext(completion), Delta)
        computed = await counted(engine_server) - before
        assert shown <= completion.usage.completion_tokens <= computed


async def test_a_second_turn_reuses_the_first_ones_prefix(gateway: Gateway) -> None:
    opening = user("Remember these words: " + "river stone cloud " * 40)
    said, first = await answer(gateway, ask(opening))

    _, second = await answer(
        gateway, ask(opening, Message(role="assistant", content=said), user("Which words?"))
    )

    assert first.prompt_tokens > 100
    assert second.cached_tokens >= first.prompt_tokens - 1


async def test_counted_tokens_are_the_prompts(gateway: Gateway) -> None:
    messages = [Message(role="system", content="Be brief."), user("What is 2 + 2?")]
    lead_in_to_the_answer = 6

    counts = await gateway.count_tokens("smollm2", messages)
    _, usage = await answer(gateway, ask(*messages, max_tokens=1))

    assert sum(counts) + lead_in_to_the_answer == usage.prompt_tokens


async def test_a_message_counts_the_same_wherever_it_stands(gateway: Gateway) -> None:
    first, second = user("One."), Message(role="assistant", content="Two.")

    together = await gateway.count_tokens("smollm2", [first, second, first])
    alone = await gateway.count_tokens("smollm2", [first])

    assert together[0] == together[2] == alone[0]


async def test_an_unfinished_answer_is_continued_from_its_last_token(gateway: Gateway) -> None:
    begun = Message(role="assistant", content="1, 2, 3, 4,")

    text, _ = await answer(gateway, ask(user("Count to ten."), begun, continue_final_message=True))

    assert text.startswith(" 5, 6")


async def test_an_assistant_message_at_the_end_is_answered_not_continued(gateway: Gateway) -> None:
    messages = (user("Count to ten."), Message(role="assistant", content="1, 2, 3, 4,"))

    _, continued = await answer(gateway, ask(*messages, max_tokens=1, continue_final_message=True))
    _, answered = await answer(gateway, ask(*messages, max_tokens=1))

    assert answered.prompt_tokens > continued.prompt_tokens


async def test_an_image_is_refused_by_its_place(gateway: Gateway) -> None:
    image = ImagePart(ImageUrl("data:image/png;base64,AAAA"))

    with pytest.raises(InvalidRequest) as refused:
        await gateway.complete(ask(user("Hi."), Message(role="user", content=[image])))

    assert refused.value.param == "messages[1].content"


async def test_free_tools_never_break_an_answer(gateway: Gateway) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [Tool(type="function", function=FunctionSpec(name="weather", parameters=schema))]

    async with aclosing(
        await gateway.complete(ask(user("Weather in Paris?"), max_tokens=60, tools=tools, tool_choice="auto"))
    ) as completion:
        events = [event async for event in completion]

    assert isinstance(events[-1], Finished)
    assert len(events) > 2


async def test_a_schema_that_is_none_is_refused(gateway: Gateway) -> None:
    wrong = JsonSchemaFormat(JsonSchema(name="x", schema={"type": "nonsense"}))

    with pytest.raises(InvalidRequest) as refused:
        await gateway.complete(ask(user("Hi."), response_format=wrong))

    assert refused.value.param == "response_format"


async def test_no_route_but_health_answers_without_the_key(engine_server: EngineServer) -> None:
    root = engine_server.url.removesuffix("/v1")
    paths = ("/v1/models", "/v1/chat/completions", "/slots", "/metrics", "/props", "/tokenize")

    async with aiohttp.ClientSession() as session:
        for path in paths:
            async with session.get(root + path) as response:
                assert response.status == 401, path
        async with session.get(f"{root}/") as response:
            assert response.status == 404


def test_an_engine_without_a_key_is_not_configured(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key"):
        EmbeddedEngineConfig(model_path=tmp_path, model_id="m", api_key="", run_dir=tmp_path)


async def test_waiting_for_an_engine_ends_with_what_it_said(engine_server: EngineServer) -> None:
    await wait_until_ready(engine_server.url, engine_server.api_key, 5)

    with pytest.raises(EngineNotReadyError, match="401"):
        await wait_until_ready(engine_server.url, "wrong", 5)
    with pytest.raises(EngineNotReadyError, match="nothing listens"):
        await wait_until_ready("http://127.0.0.1:9/v1", "key", 0.3)


async def test_a_wrong_key_is_the_operators_fault(engine_server: EngineServer) -> None:
    card = ModelCard(id="smollm2", context_length=2048, owned_by="triplane")
    gateway = gateway_of(LlamaCppEngine(engine_server.url, card, api_key="wrong"))

    with pytest.raises(EngineUnavailable, match="key"):
        await gateway.complete(ask(user("Hi.")))

    await gateway.close()


async def test_an_engine_killed_in_its_stream_fails_it_and_is_then_unavailable(
    model_path: Path, tmp_path: Path
) -> None:
    with running_engine(model_path, tmp_path, context_length=512, parallel=1) as server:
        gateway = gateway_to(server)
        completion = await gateway.complete(ask(user("Tell a long story."), max_tokens=400))
        async with aclosing(completion):
            seen = [await anext(completion) for _ in range(4)]
            os.kill(server.pid, signal.SIGKILL)
            seen += [event async for event in completion]

        assert isinstance(seen[-1], Failed)
        assert seen[-1].code == "engine_failed"
        assert seen[-1].retryable
        assert seen[-1].usage is not None
        assert seen[-1].usage.completion_tokens > 0
        with pytest.raises(EngineUnavailable, match="can't be reached"):
            await gateway.complete(ask(user("Hi.")))
        await gateway.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_engine_at_once_even_while_it_streams(
    model_path: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with running_engine(model_path, tmp_path, context_length=512, parallel=1) as server:
        gateway = gateway_to(server)
        completion = await gateway.complete(ask(user("Tell a long story."), max_tokens=400))
        async with aclosing(completion):
            os.kill(server.pid, number)
            await until(lambda: not listens(server.pid))
        await gateway.close()

    assert read_state(tmp_path) is None


async def test_an_engine_dies_with_its_parent(model_path: Path, tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from engine_fixture import running_engine\n"
        "from pathlib import Path\n"
        "with running_engine(Path(sys.argv[1]), Path(sys.argv[2]), 512, 1) as server:\n"
        "    print(server.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        str(model_path),
        str(tmp_path),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    out, _ = await parent.communicate()

    await until(lambda: not listens(int(out)))


async def test_an_engine_process_writes_no_prompt_to_its_output(model_path: Path, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from triplane.adapters.embedded.llama_cpp import EmbeddedEngineConfig, run_engine\n"
        "run_engine(EmbeddedEngineConfig(model_path=Path(sys.argv[1]), model_id='smollm2', api_key='k',\n"
        "    run_dir=Path(sys.argv[2]), context_length=512, parallel=1))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(model_path), str(tmp_path), stdout=-1, stderr=-1
    )
    await until(lambda: read_state(tmp_path) is not None)
    state = read_state(tmp_path)
    assert state is not None
    body = json.dumps({"messages": [{"role": "user", "content": "secret-word"}], "max_tokens": 2})
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer k"}) as session,
        session.post(f"{state.url}/chat/completions", data=body) as response,
    ):
        assert response.status == 200

    process.terminate()
    out, err = await process.communicate()

    assert out == b""
    assert b"secret-word" not in err
    assert process.returncode == 0


def listens(pid: int) -> bool:
    """Whether the process is there and is no zombie that only waits to be read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_corrupted_model_file_is_pulled_again_and_a_killed_pull_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    target.write_bytes(b"GGUF but no more")
    (tmp_path / ".pull-killed").mkdir()
    (tmp_path / ".pull-killed" / "half").write_bytes(b"half")
    told: list[tuple[int, int | None]] = []

    pulled = pull("smollm2", tmp_path, lambda done, total: told.append((done, total)))
    again = pull("smollm2", tmp_path, lambda *_: pytest.fail("nothing is left to pull"))

    assert pulled == again == target
    assert target.stat().st_size == 98362432
    assert told[-1][0] == told[-1][1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", target.name, f"{target.name}.sha256"]
