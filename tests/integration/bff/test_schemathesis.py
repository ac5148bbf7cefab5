"""Schemathesis reads the API's own description, and finds no request that makes the server fail."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from served_app import Served

EXAMPLES = 15
FRAMING = {"transfer-encoding", "content-length"}
"""They say where a request ends: the server's parser refuses wrong ones, in text, below the API."""
SHARES = 2
"""Processes that attack at once: making up a request takes far longer than answering it."""
ENDLESS = {"/v1/events"}
"""A stream that goes on for minutes, which this client would wait for."""

CHECKS = [
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
    content_type_conformance,
]
"""The first holds of whatever is sent."""


def attack(operation: Any, key: str) -> None:
    """Send one operation many bodies and parameters, right ones and wrong ones."""
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode])

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def holds(case: schemathesis.Case[Any]) -> None:
        checks = CHECKS if FRAMING.isdisjoint(map(str.lower, case.headers)) else CHECKS[:1]
        case.call_and_validate(headers={"authorization": f"Bearer {key}"}, timeout=10, checks=checks)

    holds()


def attack_share(url: str, key: str, share: int) -> list[str]:
    """What was found, for each operation of the share that doesn't keep to its description."""
    found = []
    results = schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()
    for result in islice(results, share, None, SHARES):
        assert isinstance(result, Ok), result
        operation = result.ok()
        if operation.path in ENDLESS:
            continue
        try:
            attack(operation, key)
        except FailureGroup as failures:
            found += [f"{operation.label}: {failure}" for failure in failures.exceptions]
    return found


async def test_every_operation_keeps_to_its_description_whatever_is_sent(bff: Served) -> None:
    loop, spawned = asyncio.get_running_loop(), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SHARES, spawned) as processes:
        async with asyncio.timeout(200):
            found = await asyncio.gather(
                *(
                    loop.run_in_executor(processes, attack_share, bff.url, bff.key, share)
                    for share in range(SHARES)
                )
            )

    assert found == [[]] * SHARES
