"""The gateway over gRPC: what the library promises holds from another process too, and what gRPC adds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection, reflection_pb2

from certificates import Authority
from engine_fixture import EngineServer
from gateways import gateway_of
from triplane.domain.completion import CompletionRequest, Message, ModelCard, Sampling
from triplane.domain.errors import ContextTooLong, EngineUnavailable, ModelNotFound
from triplane.domain.events import Delta, Finished, Started
from triplane.inference.engines.llama_cpp import LlamaCppEngine
from triplane.inference.gateway import Gateway
from triplane.inference.service.rpc.client import ClientTls, RemoteGateway
from triplane.inference.service.rpc.messages import SERVICE
from triplane.inference.service.rpc.server import TlsFiles, serving
from waiting import until


@pytest.fixture
async def local(engine_server: EngineServer) -> AsyncIterator[Gateway]:
    card = ModelCard(
        id=engine_server.model_id,
        context_length=engine_server.context_length,
        owned_by="triplane",
        supports_continuation=True,
    )
    gateway = gateway_of(LlamaCppEngine(engine_server.url, card, api_key=engine_server.api_key), slots=4)
    yield gateway
    await gateway.close()


@pytest.fixture
async def address(local: Gateway) -> AsyncIterator[str]:
    async with serving(local, "127.0.0.1:0") as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
async def remote(address: str) -> AsyncIterator[RemoteGateway]:
    gateway = RemoteGateway(address)
    yield gateway
    await gateway.close()


def ask(text: str, **fields: object) -> CompletionRequest:
    return CompletionRequest(
        request_id="req_grpc",
        model=str(fields.get("model", "smollm2")),
        messages=[Message(role="user", content=text)],
        sampling=Sampling(max_tokens=int(str(fields.get("max_tokens", 12))), temperature=0.0),
    )


async def test_an_answer_is_the_same_as_from_the_library(local: Gateway, remote: RemoteGateway) -> None:
    async with aclosing(await local.complete(ask("Count to five."))) as completion:
        wanted = [event async for event in completion]
    async with aclosing(await remote.complete(ask("Count to five."))) as told:
        events = [event async for event in told]

    texts = [[event.text for event in each if isinstance(event, Delta)] for each in (wanted, events)]
    assert "".join(texts[0]) == "".join(texts[1])
    assert isinstance(events[0], Started)
    last = events[-1]
    assert isinstance(last, Finished)
    assert told.usage == last.usage
    assert [(call.attempt, call.route) for call in told.calls] == [(1, "only")]


async def test_closing_stops_the_engine_and_still_tells_the_cost(
    local: Gateway, remote: RemoteGateway
) -> None:
    completion = await remote.complete(ask("Write a very long story about the sea.", max_tokens=400))
    seen = 0
    async for event in completion:
        seen += isinstance(event, Delta)
        if seen == 3:
            break
    await completion.aclose()

    assert completion.usage.completion_tokens >= 3
    assert completion.usage.completion_tokens < 400
    [route] = local.fleet()
    assert route.held == 0
    assert [event async for event in completion] == []


async def test_a_reader_that_is_cancelled_can_still_be_told_the_cost(remote: RemoteGateway) -> None:
    completion = await remote.complete(ask("Write a very long story about the sea.", max_tokens=400))
    first_delta = asyncio.Event()

    async def read() -> None:
        async for event in completion:
            if isinstance(event, Delta):
                first_delta.set()

    reading = asyncio.create_task(read())
    await asyncio.wait_for(first_delta.wait(), 30)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await completion.aclose()

    assert completion.usage.prompt_tokens > 0
    assert completion.usage.completion_tokens >= 1


async def test_a_client_that_vanishes_frees_the_slot(local: Gateway, address: str) -> None:
    vanishing = RemoteGateway(address)
    completion = await vanishing.complete(ask("Write a very long story about the sea.", max_tokens=400))
    assert local.fleet()[0].held == 1

    await vanishing.close()

    await until(lambda: local.fleet()[0].held == 0)
    await completion.aclose()


async def test_refusals_keep_their_kind(remote: RemoteGateway) -> None:
    with pytest.raises(ModelNotFound) as missing:
        await remote.complete(ask("Hi", model="nonesuch"))
    assert missing.value.param == "model"
    with pytest.raises(ModelNotFound):
        await remote.model("nonesuch")
    with pytest.raises(ContextTooLong):
        await remote.complete(ask("word " * 5000))


async def test_tokens_and_models_are_told(local: Gateway, remote: RemoteGateway) -> None:
    messages = [Message(role="user", content="How many tokens?")]

    assert await remote.count_tokens("smollm2", messages) == await local.count_tokens("smollm2", messages)
    assert await remote.models() == await local.models()
    assert await remote.catalogue() == await local.catalogue()
    assert [route.name for route in await remote.fleet()] == ["only"]


async def test_a_gateway_that_is_away_is_unavailable() -> None:
    gateway = RemoteGateway("127.0.0.1:9")

    with pytest.raises(EngineUnavailable, match="gateway"):
        await gateway.check()
    with pytest.raises(EngineUnavailable, match="gateway"):
        await gateway.complete(ask("Hi"))
    await gateway.close()


async def test_health_and_reflection_are_served(remote: RemoteGateway, address: str) -> None:
    await remote.check()
    async with grpc.aio.insecure_channel(address) as channel:
        ask_reflection = channel.stream_stream(
            f"/{reflection.SERVICE_NAME}/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in ask_reflection(iter([asked]))]

    names = {service.name for service in answers[0].list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names


async def test_with_mutual_tls_only_known_clients_are_served(local: Gateway, tmp_path: Path) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    server, client, stranger = ours.issue("localhost"), ours.issue("api"), others.issue("stranger")
    tls = TlsFiles(key=server.key, certificate=server.certificate, client_ca=ours.certificate)
    async with serving(local, "localhost:0", tls) as port:
        known, unknown, plain = (
            RemoteGateway(
                f"localhost:{port}",
                ClientTls(ca=ours.certificate, key=client.key, certificate=client.certificate),
            ),
            RemoteGateway(
                f"localhost:{port}",
                ClientTls(ca=ours.certificate, key=stranger.key, certificate=stranger.certificate),
            ),
            RemoteGateway(f"localhost:{port}"),
        )

        assert [card.id for card in await known.models()] == ["smollm2"]
        for refused in (unknown, plain):
            with pytest.raises(EngineUnavailable):
                await refused.models()

        for gateway in (known, unknown, plain):
            await gateway.close()
