"""How long a scheduler's step takes on a GPU that isn't here, and how much KV cache fits beside the weights.

The roofline model (Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009): a step takes as long as its
arithmetic at the peak rate or its memory traffic at the peak bandwidth, whichever is longer. Prefill has
much arithmetic for each byte and is bound by the former, decode by the latter.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from triplane.inference.simulated_engine.profiles import GpuProfile, ModelProfile

BLOCK_TOKENS = 16
"""Tokens of one KV block: vLLM's default."""


class ModelTooLarge(ValueError):
    """The weights leave no memory for a KV cache."""


@dataclass(frozen=True)
class Roofline:
    """A model on `gpus` GPUs of one kind, its layers split among them (tensor parallel).

    The efficiencies are what a good engine reaches of the data sheet's peaks; `parallel_efficiency` is what
    is left of each GPU when several talk to one another; `overhead_s` is a step's fixed cost (scheduling,
    kernel launches, sampling). They are assumptions: measure your engine to set them. `link_bandwidth`,
    bytes a second, and `link_latency_s` are those between a prefill and a decode engine (400 Gbit/s here).
    """

    gpu: GpuProfile
    model: ModelProfile
    gpus: int = 1
    compute_efficiency: float = 0.6
    bandwidth_efficiency: float = 0.8
    parallel_efficiency: float = 0.9
    memory_utilization: float = 0.9
    overhead_s: float = 0.0005
    link_bandwidth: float = 50e9
    link_latency_s: float = 0.002

    def step_seconds(self, work: Iterable[tuple[int, int]]) -> float:
        """The time of one step: for each sequence its tokens already computed, and those to compute now.

        Arithmetic: 2 operations for each parameter and token, and attention's 4 · layers · heads · head size
        for each token and each token that it looks back on. Traffic: the weights once, and the KV cache of
        each sequence.
        """
        tokens = looked_back = context = 0.0
        for computed, new in work:
            tokens += new
            looked_back += new * (computed + new / 2)
            context += computed + new
        model = self.model
        attention = 4 * model.layers * model.heads * model.head_dim * looked_back
        operations = 2 * model.parameters * tokens + attention
        traffic = model.weights + model.kv_bytes_per_token * context
        together = self._together
        compute_s = operations / (self.gpu.peak_flops * self.compute_efficiency * together)
        traffic_s = traffic / (self.gpu.bandwidth * self.bandwidth_efficiency * together)
        return max(compute_s, traffic_s) + self.overhead_s

    def transfer_seconds(self, tokens: int) -> float:
        """The time to fetch the KV cache of this many tokens from another engine."""
        return self.link_latency_s + tokens * self.model.kv_bytes_per_token / self.link_bandwidth

    @property
    def kv_blocks(self) -> int:
        """KV blocks that fit beside the weights. Raises ModelTooLarge."""
        free = self.gpu.memory * self.gpus * self.memory_utilization - self.model.weights
        blocks = int(free // (self.model.kv_bytes_per_token * BLOCK_TOKENS))
        if blocks < 1:
            needed = self.model.weights / (self.gpu.memory * self.memory_utilization)
            raise ModelTooLarge(
                f"{self.model.name} doesn't fit {self.gpus} × {self.gpu.name}: "
                f"its weights alone take {needed:.1f} of them."
            )
        return blocks

    @property
    def _together(self) -> float:
        """How many GPUs' worth of work all of them do."""
        return 1.0 if self.gpus == 1 else self.gpus * self.parallel_efficiency
