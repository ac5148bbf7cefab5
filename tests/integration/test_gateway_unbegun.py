"""What engines computed for a completion that never began: told and billed, in the library and over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fleets import Fleet, ask, running_fleet
from triplane.domain.completion import CompletionRequest
from triplane.domain.conversation import Principal
from triplane.domain.errors import TriplaneError
from triplane.domain.money import CallsMade, EngineCall, usage_of
from triplane.inference.service.rpc.client import RemoteGateway
from triplane.inference.service.rpc.server import serving
from triplane.inference.simulated_engine.engine import Simulation
from triplane.inference.simulated_engine.faults import Fault, Hang, Refuse
from triplane.orchestration.background import BackgroundTasks
from triplane.orchestration.ports import Gateway
from triplane.orchestration.stateless import StatelessDeps, start_completion
from triplane.orchestration.whole_answers import billed_answer
from turn_fakes import MemoryUsage
from waiting import until

WHO = Principal(tenant_id="t", user_id="u")
QUESTION = "word " * 200
FAILS, HANGS = Refuse(status=500), Hang()


class Pools:
    """A prefill pool that is well, behind a decode pool that isn't: the prompt is computed, and no token."""

    def __init__(self, readers: Fleet, decoders: Fleet, gateway: Gateway) -> None:
        self._readers = readers
        self._decoders = decoders
        self.gateway = gateway

    @property
    def read(self) -> Simulation:
        return self._readers.engines[0].engine.simulation

    async def decoding_is_asked(self) -> None:
        """The prefill has answered, and the decoding engine hangs over the request."""
        await until(lambda: any(each.struck for each in self._decoders.engines[0].faults.state.faults))

    def assert_billed(self, calls: Sequence[EngineCall]) -> None:
        """Exactly what the engines' own counters say, which is something."""
        told = usage_of(calls)
        assert told.prompt_tokens - told.cached_tokens == self.read.prompt_computed > 200
        assert told.completion_tokens == self.read.generated


@asynccontextmanager
async def library(fleet: Fleet) -> AsyncIterator[Gateway]:
    yield fleet.gateway


@asynccontextmanager
async def over_grpc(fleet: Fleet) -> AsyncIterator[Gateway]:
    async with serving(fleet.gateway, "127.0.0.1:0") as port:
        gateway = RemoteGateway(f"127.0.0.1:{port}")
        yield gateway
        await gateway.close()


@asynccontextmanager
async def pools(reached: Callable[[Fleet], Any], fault: Fault) -> AsyncIterator[Pools]:
    async with (
        running_fleet({"prefill": {"of": {"kv_role": "prefill"}}}) as readers,
        running_fleet(
            {
                "pool": {
                    "of": {"kv_role": "decode"},
                    "prefill_urls": [readers.engines[0].url],
                    "retries": 0,
                }
            }
        ) as fleet,
        reached(fleet) as gateway,
    ):
        fleet.break_engine(0, fault)
        yield Pools(readers, fleet, gateway)


both = pytest.mark.parametrize("reached", [library, over_grpc])


def request() -> CompletionRequest:
    return ask(QUESTION)


@both
async def test_a_completion_that_fails_before_its_first_event_tells_its_calls(reached: Any) -> None:
    made = CallsMade()
    async with pools(reached, FAILS) as of:
        with pytest.raises(TriplaneError):
            await of.gateway.complete(request(), made)
        of.assert_billed(made.calls)


@both
async def test_one_that_is_cancelled_before_its_first_event_tells_its_calls(reached: Any) -> None:
    made = CallsMade()
    async with pools(reached, HANGS) as of:
        asking = asyncio.create_task(of.gateway.complete(request(), made))
        await of.decoding_is_asked()
        asking.cancel()
        await asyncio.wait((asking,))

        assert asking.cancelled()
        of.assert_billed(made.calls)


@both
@pytest.mark.parametrize("fault", [FAILS, HANGS], ids=["fails", "is left"])
async def test_a_stateless_call_that_never_began_is_billed(reached: Any, fault: Fault) -> None:
    usage, metering = MemoryUsage(), BackgroundTasks()
    async with pools(reached, fault) as of:
        deps = StatelessDeps(gateway=of.gateway, usage=usage, metering=metering)
        completion = await start_completion(WHO, request(), deps)
        if fault is FAILS:
            with pytest.raises(TriplaneError):
                await completion.opened()
        else:
            await of.decoding_is_asked()
        await completion.aclose()
        await metering.aclose(5)

        of.assert_billed([event.call for event in usage.events])


@both
async def test_a_title_or_summary_that_never_began_is_billed(reached: Any) -> None:
    usage = MemoryUsage()
    async with pools(reached, FAILS) as of:
        with pytest.raises(TriplaneError):
            await billed_answer(WHO, request(), "conv_1", of.gateway, usage)

        of.assert_billed([event.call for event in usage.events])
        assert {event.conversation_id for event in usage.events} == {"conv_1"}
