"""`/metrics` under vLLM's names (docs.vllm.ai, Production Metrics). Times are simulated seconds."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from triplane.inference.simulated_engine import sequence as sequences
from triplane.inference.simulated_engine.scheduler import Scheduler

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TTFT = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_LONG = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920)
_LABELS = ("model_name", "engine")


class Tally:
    """A histogram in plain numbers: counting is on the path of every token."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self, labels: Sequence[str]) -> HistogramMetricFamily:
        family = HistogramMetricFamily(self._name, self._text, labels=_LABELS)
        buckets, below = [], 0
        for bound, count in zip((*map(str, map(float, self._bounds)), "+Inf"), self._counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        family.add_metric(labels, buckets, self._sum)
        return family


class EngineMetrics(Collector):
    """Reads the scheduler's own state when it is asked; only what isn't there is counted here."""

    def __init__(self, model_id: str, scheduler: Scheduler) -> None:
        self._labels = (model_id, "0")
        self._scheduler = scheduler
        self._ttft = Tally("vllm:time_to_first_token_seconds", "Time to first token.", _TTFT)
        self._itl = Tally("vllm:inter_token_latency_seconds", "Time between two tokens.", _ITL)
        self._queue = Tally("vllm:request_queue_time_seconds", "Time in the waiting queue.", _LONG)
        self._whole = Tally("vllm:e2e_request_latency_seconds", "Time from arrival to the end.", _LONG)
        self._ended: Counter[str] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def token(self, sequence: sequences.Sequence, now: float) -> None:
        """One more token of this sequence came at `now`."""
        if sequence.last_token == sequences.NOT_YET:
            self._ttft.observe(now - sequence.arrived)
            self._queue.observe(max(0.0, sequence.first_admitted - sequence.arrived))
        else:
            self._itl.observe(now - sequence.last_token)
        sequence.last_token = now

    def ended(self, reason: str, seconds: float) -> None:
        """A request ended after so long: stop, length or abort."""
        self._ended[reason] += 1
        self._whole.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        scheduler, counters = self._scheduler, self._scheduler.counters
        waiting = len(scheduler.waiting) + scheduler.transfers.arriving
        yield self._gauge("vllm:num_requests_running", "Requests in the batch.", len(scheduler.running))
        yield self._gauge("vllm:num_requests_waiting", "Requests in the waiting queue.", waiting)
        yield self._gauge("vllm:kv_cache_usage_perc", "KV blocks in use, 0 to 1.", scheduler.kv_usage)
        yield self._counter("vllm:prefix_cache_queries", "Prompt tokens looked up.", counters.prefix_queries)
        yield self._counter("vllm:prefix_cache_hits", "Prompt tokens found.", counters.prefix_hits)
        yield self._counter("vllm:num_preemptions", "Preemptions.", counters.preemptions)
        yield self._counter("vllm:prompt_tokens", "Prompt tokens processed.", counters.prompt_tokens)
        yield self._counter("vllm:generation_tokens", "Tokens generated.", counters.generated)
        success = CounterMetricFamily(
            "vllm:request_success", "Requests ended.", labels=(*_LABELS, "finished_reason")
        )
        for reason in ("stop", "length", "abort"):
            success.add_metric((*self._labels, reason), self._ended[reason])
        yield success
        for tally in (self._ttft, self._itl, self._queue, self._whole):
            yield tally.family(self._labels)

    def _gauge(self, name: str, text: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        family.add_metric(self._labels, value)
        return family

    def _counter(self, name: str, text: str, value: float) -> CounterMetricFamily:
        family = CounterMetricFamily(name, text, labels=_LABELS)
        family.add_metric(self._labels, value)
        return family
