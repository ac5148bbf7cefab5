"""The engines that the contract suite holds to the contract, and what each of them can't do.

Without further word they are the embedded llama.cpp, the same once more behind our own Messages face, and a
simulated engine by vLLM's wire, once more with the gateway behind gRPC.
TRIPLANE_TEST_ENGINE_URL (ends in `/v1`) puts an engine at any address in their place; `scripts/test-engine`
sets it and what belongs to it: TRIPLANE_TEST_ENGINE_MODEL, _KIND, _API_KEY, _CONTEXT, _LACKS.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from engine_fixture import EngineServer
from gateways import gateway_of
from messages_server import serving_messages
from simulated_engines import card_of, running_simulated_engines
from triplane.domain.completion import CompletionRequest, ModelCard
from triplane.domain.errors import UnsupportedParameter
from triplane.inference.engines.anthropic_http import AnthropicEngine
from triplane.inference.engines.engine import Engine
from triplane.inference.engines.llama_cpp import LlamaCppEngine
from triplane.inference.engines.openai_http import OpenAIEngine
from triplane.inference.engines.sglang import SglangEngine
from triplane.inference.engines.vllm import VllmEngine

KINDS = {
    "openai_http": OpenAIEngine,
    "vllm": VllmEngine,
    "sglang": SglangEngine,
    "llama_cpp": LlamaCppEngine,
    "anthropic_http": AnthropicEngine,
}
LACKS = {
    "openai_http": frozenset({"continuation"}),
}
REFUSES = {
    "anthropic_http": frozenset({"seed", "logprobs", "json_object"}),
}
DEFAULT_CONTEXT = 8192
EMBEDDED = ["embedded", "embedded-messages"]
SIMULATED = ["simulated", "simulated-grpc"]
ENGINES = ["address"] if "TRIPLANE_TEST_ENGINE_URL" in os.environ else EMBEDDED + SIMULATED


@dataclass(frozen=True)
class EngineUnderTest:
    """`lacks`: abilities that it hasn't (seed, logprobs, json_object, json_schema, tools, continuation).

    `refused`: those of which its adapter knows that, and says so.
    """

    engine: Engine
    lacks: frozenset[str]
    refused: frozenset[str]
    knows_context: bool
    over_grpc: bool = False

    @property
    def card(self) -> ModelCard:
        return self.engine.card

    def needs(self, ability: str) -> None:
        """Skip the test of something that this engine can't do."""
        if ability in self.lacks:
            pytest.skip(f"this engine lacks {ability}")

    async def refuses(self, ability: str, request: CompletionRequest) -> bool:
        """Whether the adapter knows that its wire hasn't got this; then the request has been refused."""
        self.needs(ability)
        if ability not in self.refused:
            return False
        with pytest.raises(UnsupportedParameter):
            await self.engine.start(request, {})
        return True


@pytest_asyncio.fixture(loop_scope="session", params=ENGINES)
async def under_test(request: pytest.FixtureRequest) -> AsyncIterator[EngineUnderTest]:
    if request.param == "address":
        tested = _at_the_address()
        yield tested
        await tested.engine.close()
        return
    if request.param in SIMULATED:
        over_grpc = request.param == "simulated-grpc"
        async with running_simulated_engines(1, model="smollm2") as [simulated]:
            vllm = VllmEngine(simulated.url, card_of(simulated, supports_continuation=True))
            yield EngineUnderTest(vllm, frozenset(), frozenset(), knows_context=True, over_grpc=over_grpc)
            await vllm.close()
        return
    async with _embedded(request.getfixturevalue("engine_server")) as engine:
        if request.param == "embedded":
            yield EngineUnderTest(engine, frozenset(), frozenset(), knows_context=True)
            return
        async with serving_messages(gateway_of(engine)) as url:
            messages = AnthropicEngine(url, engine.card)
            yield EngineUnderTest(messages, frozenset(), REFUSES["anthropic_http"], knows_context=True)
            await messages.close()


def _at_the_address() -> EngineUnderTest:
    environment = os.environ
    kind = environment.get("TRIPLANE_TEST_ENGINE_KIND") or "openai_http"
    if kind not in KINDS:
        raise ValueError(f"KIND is one of {', '.join(KINDS)}, not {kind!r}.")
    said = environment.get("TRIPLANE_TEST_ENGINE_LACKS") or ""
    lacks = LACKS.get(kind, frozenset()) | frozenset(said.replace(",", " ").split())
    context = environment.get("TRIPLANE_TEST_ENGINE_CONTEXT")
    card = ModelCard(
        id=environment["TRIPLANE_TEST_ENGINE_MODEL"],
        context_length=int(context or DEFAULT_CONTEXT),
        owned_by="test",
        supports_continuation="continuation" not in lacks,
    )
    key = environment.get("TRIPLANE_TEST_ENGINE_API_KEY")
    engine: Engine = KINDS[kind](environment["TRIPLANE_TEST_ENGINE_URL"], card, name=kind, api_key=key)
    return EngineUnderTest(engine, lacks, REFUSES.get(kind, frozenset()), knows_context=bool(context))


@asynccontextmanager
async def _embedded(server: EngineServer) -> AsyncIterator[LlamaCppEngine]:
    card = ModelCard(
        id=server.model_id,
        context_length=server.context_length,
        owned_by="triplane",
        supports_continuation=True,
    )
    engine = LlamaCppEngine(server.url, card, name="llama.cpp", api_key=server.api_key)
    yield engine
    await engine.close()
