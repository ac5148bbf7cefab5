"""Load on a gateway, as its callers see it: each request with its wait, its tokens or its refusal."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from statistics import quantiles
from typing import Protocol

import msgspec

from triplane.domain.completion import CompletionRequest, Flow, Message, Sampling
from triplane.domain.errors import Busy, TriplaneError
from triplane.domain.events import Delta, EngineEvent, Failed, Finished
from triplane.domain.ids import new_id
from triplane.domain.money import EngineCall


class Completion(Protocol):
    @property
    def calls(self) -> list[EngineCall]: ...
    def __aiter__(self) -> AsyncIterator[EngineEvent]: ...
    async def aclose(self) -> None: ...


class CompletesRequests(Protocol):
    """The library's gateway, or one at the other end of a channel."""

    async def complete(self, request: CompletionRequest) -> Completion: ...


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `asked_at` in the loop's time. `ttft_s` None: it got no token; `code` says why.

    `ended_s` after `asked_at` it was answered, or refused. `computed` are its tokens, the prompt's included.
    """

    plan: str
    user: str
    asked_at: float
    ended_s: float
    ttft_s: float | None = None
    tokens: int = 0
    computed: int = 0
    code: str = ""
    retry_after_s: float | None = None

    @property
    def is_answered(self) -> bool:
        return not self.code

    @property
    def ended_at(self) -> float:
        return self.asked_at + self.ended_s


Maker = Callable[[], CompletionRequest]


def question(
    model: str, *, plan: str = "", user: str = "u", tokens: int = 40, prompt_words: int = 60
) -> CompletionRequest:
    """A question that no cache knows, by this user."""
    name = new_id("req")
    return CompletionRequest(
        request_id=name,
        model=model,
        messages=[Message(role="user", content=f"{name} " + "word " * prompt_words)],
        sampling=Sampling(max_tokens=tokens, temperature=0.0),
        flow=Flow(tenant="bench", user=user, plan=plan),
    )


async def ask(gateway: CompletesRequests, request: CompletionRequest) -> Asked:
    """Ask once, and read the answer to its end."""
    now = asyncio.get_running_loop().time
    asked_at, ttft_s, tokens, computed, code = now(), None, 0, 0, ""
    retry_after_s: float | None = None
    try:
        async with aclosing(await gateway.complete(request)) as completion:
            async for event in completion:
                if isinstance(event, Delta):
                    ttft_s = ttft_s or now() - asked_at
                    tokens += 1
                elif isinstance(event, Finished):
                    computed = event.usage.total_tokens
                elif isinstance(event, Failed):
                    code = event.code
    except TriplaneError as error:
        code = error.code
        retry_after_s = error.retry_after_s if isinstance(error, Busy) else None
    return Asked(
        plan=request.flow.plan,
        user=request.flow.user,
        asked_at=asked_at,
        ended_s=now() - asked_at,
        ttft_s=ttft_s,
        tokens=tokens,
        computed=computed,
        code=code,
        retry_after_s=retry_after_s,
    )


async def ask_patiently(
    gateway: CompletesRequests, request: CompletionRequest, *, most: int = 100
) -> list[Asked]:
    """Ask, and after each refusal again when it said so; what came of each time."""
    told: list[Asked] = []
    while len(told) < most:
        told.append(await ask(gateway, request))
        if (wait_s := told[-1].retry_after_s) is None:
            break
        await asyncio.sleep(wait_s)
    return told


async def keep_asking(gateway: CompletesRequests, make: Maker, clients: int, for_s: float) -> list[Asked]:
    """Clients that ask again as soon as they are answered; one that is refused comes when it was told to."""
    now = asyncio.get_running_loop().time
    until = now() + for_s
    told: list[Asked] = []

    async def client() -> None:
        while now() < until:
            told.append(asked := await ask(gateway, make()))
            if asked.retry_after_s is not None:
                await asyncio.sleep(min(asked.retry_after_s, max(0.0, until - now())))

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return told


async def arrive(
    gateway: CompletesRequests, make: Maker, per_s: float, for_s: float, *, seed: int = 0
) -> list[Asked]:
    """Requests that come at random (a Poisson process), however busy the gateway is. Ends with the last."""
    luck = random.Random(seed)
    now = asyncio.get_running_loop().time
    due, until = now(), now() + for_s
    told: list[Asked] = []

    async def one() -> None:
        told.append(await ask(gateway, make()))

    async with asyncio.TaskGroup() as group:
        while (due := due + luck.expovariate(per_s)) < until:
            await asyncio.sleep(max(0.0, due - now()))
            group.create_task(one())
    return told


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What some requests saw. Seconds; `refused` by code."""

    asked: int
    answered: int
    tokens: int
    refused: dict[str, int]
    ttft_p50_s: float
    ttft_p99_s: float
    ttft_max_s: float
    refusal_p50_s: float
    refusal_p99_s: float
    retry_after_p50_s: float
    retry_after_max_s: float


def summary(told: Sequence[Asked]) -> Summary:
    ttfts = [each.ttft_s for each in told if each.is_answered and each.ttft_s is not None]
    refused = [each for each in told if not each.is_answered]
    refusals = [each.ended_s for each in refused]
    waits = [each.retry_after_s for each in refused if each.retry_after_s is not None]
    return Summary(
        asked=len(told),
        answered=len(told) - len(refused),
        tokens=sum(each.tokens for each in told),
        refused=dict(Counter(each.code for each in refused)),
        ttft_p50_s=percentile(ttfts, 50),
        ttft_p99_s=percentile(ttfts, 99),
        ttft_max_s=max(ttfts, default=0.0),
        refusal_p50_s=percentile(refusals, 50),
        refusal_p99_s=percentile(refusals, 99),
        retry_after_p50_s=percentile(waits, 50),
        retry_after_max_s=max(waits, default=0.0),
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """0 of nothing."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return quantiles(values, n=100, method="inclusive")[percent - 1]
