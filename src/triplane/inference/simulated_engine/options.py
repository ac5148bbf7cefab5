"""How a simulated engine is set up. The names are vLLM's where vLLM has the option."""

from dataclasses import dataclass, field
from typing import Literal

from triplane.inference.simulated_engine.faults import NO_FAULTS, FaultPlan
from triplane.inference.simulated_engine.profiles import gpu_named, model_named
from triplane.inference.simulated_engine.roofline import Roofline
from triplane.inference.simulated_engine.scheduler import Limits

SchedulingPolicy = Literal["fcfs", "priority"]
KvRole = Literal["none", "prefill", "decode", "both"]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """`speed` is simulated seconds in a real one, 0 for no delay at all. `max_model_len`: None takes the
    model's context, or what the KV cache holds if that is less. `answer_tokens`: the length of every answer
    that nothing cuts short; None lets it follow from the prompt. `kv_role`: what the engine does in
    prefill/decode disaggregation.
    """

    gpu: str = "h100"
    model: str = "llama-8b"
    gpus: int = 1
    speed: float = 1.0
    limits: Limits = field(default_factory=Limits)
    max_model_len: int | None = None
    scheduling_policy: SchedulingPolicy = "fcfs"
    kv_role: KvRole = "none"
    api_key: str | None = None
    answer_tokens: int | None = None
    faults: FaultPlan = NO_FAULTS

    def roofline(self) -> Roofline:
        """Raises UnknownProfile."""
        return Roofline(gpu_named(self.gpu), model_named(self.model), self.gpus)
