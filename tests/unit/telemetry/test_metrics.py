"""The numbers that /metrics tells, in one process and over several."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateways import engine_call
from triplane.domain.events import Usage
from triplane.telemetry.completions import CompletionMetrics
from triplane.telemetry.metrics import Metrics
from triplane.telemetry.shared_metrics import start_shared_metrics

AT = {"model": "smollm2", "engine": "embedded"}


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


def test_a_completion_is_in_flight_until_it_ends_and_counted_by_outcome() -> None:
    metrics = Metrics({})
    metrics.engine("smollm2", "embedded").completion_started()
    during = value(metrics, "triplane_completions_in_flight", **AT)

    metrics.engine("smollm2", "embedded").completion_ended(
        "failed", "engine_failed", Usage(), had_token=False
    )

    assert during == 1
    assert value(metrics, "triplane_completions_in_flight", **AT) == 0
    assert value(metrics, "triplane_completions_total", **AT, outcome="failed", code="engine_failed") == 1


def test_tokens_are_counted_by_kind_and_model() -> None:
    metrics = Metrics({})
    metrics.engine("smollm2", "embedded").completion_started()
    usage = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=7)

    metrics.engine("smollm2", "embedded").completion_ended("complete", "", usage, had_token=False)

    counted = [
        value(metrics, "triplane_tokens_total", model="smollm2", kind=kind)
        for kind in ("prompt", "cached", "completion")
    ]
    assert counted == [10, 4, 7]


def test_inter_token_latencies_reach_the_exposition_in_their_buckets() -> None:
    metrics = Metrics({})
    tally = metrics.engine("smollm2", "embedded").itl
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
        metrics.engine("smollm2", "embedded").itl.observe(0.01)
    metrics.exposition()

    assert value(metrics, "triplane_inter_token_latency_seconds_count", **AT) == 1000


def test_a_time_to_first_token_is_counted_by_model_and_engine() -> None:
    metrics = Metrics({})
    metrics.engine("smollm2", "embedded").first_token(0.07)

    assert value(metrics, "triplane_time_to_first_token_seconds_bucket", **AT, le="0.075") == 1
    assert value(metrics, "triplane_time_to_first_token_seconds_bucket", **AT, le="0.05") == 0


def test_a_completion_is_in_the_queue_until_its_first_token_or_its_end() -> None:
    metrics = Metrics({})
    observer = CompletionMetrics(metrics)
    answered, refused = (
        observer.begin(model="smollm2", route="local", replica="embedded", plan="free"),
        observer.begin(model="smollm2", route="local", replica="embedded", plan="free"),
    )

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


WORKER = """
from triplane.telemetry.completions import CompletionMetrics
from triplane.telemetry.metrics import Metrics
metrics = Metrics()
metrics.stream_opened()
metrics.turn_ended("complete")
metrics.engine("smollm2", "embedded").itl.observe(0.02)
import sys
sys.stdout.buffer.write(metrics.exposition())
"""


def run_worker(directory: Path) -> bytes:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    command = [sys.executable, "-c", WORKER]
    return subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60).stdout


def test_any_worker_tells_of_all_and_one_that_ended_holds_no_stream_open(tmp_path: Path) -> None:
    start_shared_metrics(tmp_path / "metrics")
    alone = run_worker(tmp_path / "metrics")
    both = run_worker(tmp_path / "metrics")

    assert value(alone, "triplane_turns_total", status="complete") == 1
    assert value(both, "triplane_turns_total", status="complete") == 2
    assert value(both, "triplane_inter_token_latency_seconds_count", **AT) == 2
    assert value(both, "triplane_streams_open") == 1


def test_numbers_of_an_earlier_run_are_cleared_at_the_start(tmp_path: Path) -> None:
    run_worker(tmp_path)

    start_shared_metrics(tmp_path)

    assert value(run_worker(tmp_path), "triplane_turns_total", status="complete") == 1
