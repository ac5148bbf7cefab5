"""The numbers that /metrics tells, in one process and over several."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateways import engine_call
from triplane.domain.events import Usage
from triplane.domain.fleet import ReplicaView, RouteView
from triplane.telemetry.completions import CallMetrics, CompletionMetrics
from triplane.telemetry.metrics import Metrics
from triplane.telemetry.shared_metrics import start_shared_metrics

AT = {"model": "smollm2", "route": "local"}


def samples(exposition: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(exposition.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics | bytes, name: str, **labels: str) -> float:
    exposition = metrics if isinstance(metrics, bytes) else metrics.exposition()
    return samples(exposition)[name, frozenset(labels.items())]


def begun(metrics: Metrics, plan: str = "free") -> CallMetrics:
    return CompletionMetrics(metrics).begin(**AT, replica="local@a", plan=plan)


def test_a_call_is_in_flight_until_it_ends_and_counted_by_outcome() -> None:
    metrics = Metrics({})
    call = begun(metrics)
    during = value(metrics, "triplane_engine_calls_in_flight", **AT)

    call.ended(engine_call(), None, "engine_failed")

    assert during == 1
    assert value(metrics, "triplane_engine_calls_in_flight", **AT) == 0
    assert value(metrics, "triplane_engine_calls_total", **AT, outcome="failed", code="engine_failed") == 1


def test_tokens_and_cost_are_counted_by_model_route_and_plan() -> None:
    metrics = Metrics({})
    usage = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=7)

    begun(metrics).ended(engine_call(usage, cost=1_500_000), "stop", None)
    begun(metrics, plan="paid").ended(engine_call(usage), "stop", None)

    free = {**AT, "plan": "free"}
    counted = [
        value(metrics, "triplane_tokens_total", **free, kind=kind)
        for kind in ("prompt", "cached", "completion")
    ]
    assert counted == [10, 4, 7]
    assert value(metrics, "triplane_cost_dollars_total", **free) == 0.0015
    assert value(metrics, "triplane_cost_dollars_total", **AT, plan="paid") == 0


def test_waits_sheds_retries_and_degradations_are_told_by_the_catalogues_names() -> None:
    metrics = Metrics({})
    observer = CompletionMetrics(metrics)

    observer.admitted("local", "free", 0.2)
    observer.shed("local", "free")
    observer.retried("smollm2", "cloud", "engine_failed")
    observer.degraded("smollm2", "tools_off")

    told = metrics.exposition()
    at = {"route": "local", "plan": "free"}
    assert value(told, "triplane_queue_wait_seconds_bucket", **at, le="0.25") == 1
    assert value(told, "triplane_queue_wait_seconds_bucket", **at, le="0.1") == 0
    assert value(told, "triplane_requests_shed_total", **at) == 1
    assert value(told, "triplane_retries_total", model="smollm2", route="cloud", reason="engine_failed") == 1
    assert value(told, "triplane_degradations_total", model="smollm2", step="tools_off") == 1


def route_view(*replicas: ReplicaView, **waiting: int) -> RouteView:
    return RouteView(
        name="local",
        engine="vllm",
        slots=None,
        held=0,
        waiting=sum(waiting.values()),
        waiting_by_plan=waiting,
        replicas=list(replicas),
    )


def replica_view(**fields: Any) -> ReplicaView:
    return ReplicaView(**{"name": "local@a", "state": "closed", "in_flight": 0, "busy_for_s": 0.0, **fields})


def test_the_fleets_queues_loads_and_breakers_are_gauges() -> None:
    metrics = Metrics({})
    busy = replica_view(state="open", in_flight=2, running=5, waiting=3, kv_usage=0.75)

    metrics.fleet.show([route_view(busy, free=4, paid=1)])

    told = metrics.exposition()
    at = {"route": "local", "replica": "local@a"}
    assert value(told, "triplane_queue_depth", route="local", plan="free") == 4
    assert value(told, "triplane_queue_depth", route="local", plan="paid") == 1
    assert value(told, "triplane_replica_in_flight", **at) == 2
    assert value(told, "triplane_replica_breaker", **at) == 2
    assert value(told, "triplane_replica_running", **at) == 5
    assert value(told, "triplane_replica_waiting", **at) == 3
    assert value(told, "triplane_replica_kv_cache_usage", **at) == 0.75


def test_what_left_the_fleet_is_nought_and_its_load_unknown() -> None:
    metrics = Metrics({})
    metrics.fleet.show([route_view(replica_view(state="open", in_flight=2, running=5), free=4)])

    metrics.fleet.show([])

    told = metrics.exposition()
    at = {"route": "local", "replica": "local@a"}
    assert value(told, "triplane_queue_depth", route="local", plan="free") == 0
    assert value(told, "triplane_replica_in_flight", **at) == 0
    assert value(told, "triplane_replica_breaker", **at) == 0
    assert math.isnan(value(told, "triplane_replica_running", **at))
    assert ("triplane_replica_waiting", frozenset(at.items())) not in samples(told)


def test_inter_token_latencies_reach_the_exposition_in_their_buckets() -> None:
    metrics = Metrics({})
    tally = metrics.gateway.route("smollm2", "local", "free").itl
    for latency in (0.0005, 0.001, 0.02, 9.0):
        tally.observe(latency)

    exposition = metrics.exposition()

    name = "triplane_inter_token_latency_seconds"
    assert value(exposition, f"{name}_bucket", **AT, le="0.001") == 2
    assert value(exposition, f"{name}_bucket", **AT, le="0.02") == 3
    assert value(exposition, f"{name}_bucket", **AT, le="5.0") == 3
    assert value(exposition, f"{name}_count", **AT) == 4
    assert abs(value(exposition, f"{name}_sum", **AT) - 9.0215) < 1e-9


def test_reading_twice_counts_nothing_twice() -> None:
    metrics = Metrics({})
    for _ in range(1000):
        metrics.gateway.route("smollm2", "local", "free").itl.observe(0.01)
    metrics.exposition()

    assert value(metrics, "triplane_inter_token_latency_seconds_count", **AT) == 1000


def test_a_time_to_first_token_is_counted_by_model_and_route() -> None:
    metrics = Metrics({})
    metrics.gateway.route("smollm2", "local", "free").first_token(0.07)

    assert value(metrics, "triplane_time_to_first_token_seconds_bucket", **AT, le="0.075") == 1
    assert value(metrics, "triplane_time_to_first_token_seconds_bucket", **AT, le="0.05") == 0


def test_a_call_is_in_the_queue_until_its_first_token_or_its_end() -> None:
    metrics = Metrics({})
    answered, refused = begun(metrics), begun(metrics)

    def depth() -> float:
        return value(metrics, "triplane_engine_queue_depth", **AT)

    seen = [depth()]
    answered.first_token(0.1)
    seen.append(depth())
    answered.ended(engine_call(), "stop", None)
    seen.append(depth())
    refused.ended(engine_call(), None, "overloaded")

    assert [*seen, depth()] == [2, 1, 1, 0]


def test_requests_errors_turns_windows_and_streams_are_told() -> None:
    metrics = Metrics({})
    metrics.http_request("/v1/models", "GET", 200, 0.004)
    metrics.http_error("model_not_found")
    metrics.turn_ended("stopped")
    metrics.hot_window_read(hit=True)
    metrics.stream_opened()

    told = metrics.exposition()

    request = {"route": "/v1/models", "method": "GET", "status": "200"}
    assert value(told, "triplane_http_request_duration_seconds_count", **request) == 1
    assert value(told, "triplane_http_errors_total", code="model_not_found") == 1
    assert value(told, "triplane_turns_total", status="stopped") == 1
    assert value(told, "triplane_hot_window_reads_total", result="hit") == 1
    assert value(told, "triplane_streams_open") == 1


def test_two_metrics_in_one_process_do_not_mix() -> None:
    one, other = Metrics({}), Metrics({})
    one.stream_opened()

    assert value(other, "triplane_streams_open") == 0


WORKER = r"""
import sys
from triplane.domain.fleet import ReplicaView, RouteView
from triplane.telemetry.metrics import Metrics
metrics = Metrics()
metrics.stream_opened()
metrics.turn_ended("complete")
metrics.gateway.route("smollm2", "local", "free").itl.observe(0.02)
state, kv_usage = sys.argv[1:]
replica = ReplicaView(
    name="local@a", state=state, in_flight=2, busy_for_s=0, running=5, waiting=0, kv_usage=float(kv_usage)
)
metrics.fleet.show([RouteView(
    name="local", engine="vllm", slots=4, held=2, waiting=3, waiting_by_plan={"free": 3}, replicas=[replica]
)])
told = metrics.exposition()
sys.stdout.buffer.write(b"%d\n%b" % (len(told), told))
sys.stdout.flush()
sys.stdin.read()
"""


@contextmanager
def worker(directory: Path, state: str = "closed", kv_usage: float = 0.5) -> Iterator[bytes]:
    """A process that tells its numbers, and lives until the block ends."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    command = [sys.executable, "-c", WORKER, state, str(kv_usage)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.read(int(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait(60)


def test_any_worker_tells_of_all_and_one_that_ended_holds_no_stream_open(tmp_path: Path) -> None:
    start_shared_metrics(tmp_path / "metrics")
    with worker(tmp_path / "metrics") as alone:
        pass
    with worker(tmp_path / "metrics") as both:
        pass

    assert value(alone, "triplane_turns_total", status="complete") == 1
    assert value(both, "triplane_turns_total", status="complete") == 2
    assert value(both, "triplane_inter_token_latency_seconds_count", **AT) == 2
    assert value(both, "triplane_streams_open") == 1


def test_of_two_workers_queues_and_calls_add_up_but_not_what_an_engine_says_to_both(tmp_path: Path) -> None:
    start_shared_metrics(tmp_path / "metrics")
    with (
        worker(tmp_path / "metrics", state="open", kv_usage=0.25),
        worker(tmp_path / "metrics", state="closed", kv_usage=0.5) as told,
    ):
        pass

    at = {"route": "local", "replica": "local@a"}
    assert value(told, "triplane_queue_depth", route="local", plan="free") == 6
    assert value(told, "triplane_replica_in_flight", **at) == 4
    assert value(told, "triplane_replica_running", **at) == 5
    assert value(told, "triplane_replica_kv_cache_usage", **at) == 0.5
    assert value(told, "triplane_replica_breaker", **at) == 2


def test_numbers_of_an_earlier_run_are_cleared_at_the_start(tmp_path: Path) -> None:
    with worker(tmp_path):
        pass

    start_shared_metrics(tmp_path)

    with worker(tmp_path) as told:
        assert value(told, "triplane_turns_total", status="complete") == 1
