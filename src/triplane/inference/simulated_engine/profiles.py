"""The GPUs and models that can be simulated, by public figures.

GPU figures are NVIDIA's data sheets' (nvidia.com, data-center products): dense BF16 tensor throughput, half
of what the sheets give with sparsity, and the memory of the named form factor. Model figures are those of
the configuration file that is published with the weights.
"""

from dataclasses import dataclass
from typing import TypeVar

GB = 1e9
TB = 1e12
TFLOPS = 1e12


@dataclass(frozen=True)
class GpuProfile:
    """One GPU. `peak_flops` is dense BF16, in operations a second; `bandwidth` and `memory` are the HBM's,
    in bytes a second and bytes."""

    name: str
    peak_flops: float
    bandwidth: float
    memory: float
    source: str


@dataclass(frozen=True)
class ModelProfile:
    """A dense transformer with grouped-query attention. `weight_bytes` and `kv_bytes` are for one parameter
    and one number of the KV cache."""

    name: str
    parameters: float
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_length: int
    source: str
    weight_bytes: float = 2.0
    kv_bytes: float = 2.0

    @property
    def id(self) -> str:
        """Its name on the wire. It says that nothing here is the model itself."""
        return f"simulated-{self.name}"

    @property
    def weights(self) -> float:
        """Bytes of all weights."""
        return self.parameters * self.weight_bytes

    @property
    def kv_bytes_per_token(self) -> float:
        """Keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.kv_bytes


GPUS = {
    gpu.name: gpu
    for gpu in (
        GpuProfile("b200", 2250 * TFLOPS, 8.0 * TB, 180 * GB, "DGX B200 data sheet, an eighth of the system"),
        GpuProfile("h200", 989.5 * TFLOPS, 4.8 * TB, 141 * GB, "H200 data sheet, SXM"),
        GpuProfile("h100", 989.5 * TFLOPS, 3.35 * TB, 80 * GB, "H100 data sheet, SXM"),
        GpuProfile("a100", 312 * TFLOPS, 2.039 * TB, 80 * GB, "A100 data sheet, 80 GB SXM"),
        GpuProfile("l40s", 362 * TFLOPS, 0.864 * TB, 48 * GB, "L40S data sheet"),
        GpuProfile("l4", 121 * TFLOPS, 0.3 * TB, 24 * GB, "L4 data sheet"),
    )
}

MODELS = {
    model.name: model
    for model in (
        ModelProfile("smollm2", 0.1345e9, 30, 9, 3, 64, 8192, "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ModelProfile("llama-8b", 8.03e9, 32, 32, 8, 128, 131072, "meta-llama/Llama-3.1-8B-Instruct"),
        ModelProfile("qwen-32b", 32.8e9, 64, 64, 8, 128, 40960, "Qwen/Qwen3-32B"),
        ModelProfile("llama-70b", 70.6e9, 80, 64, 8, 128, 131072, "meta-llama/Llama-3.1-70B-Instruct"),
        ModelProfile(
            "llama-405b",
            405.9e9,
            126,
            128,
            8,
            128,
            131072,
            "meta-llama/Llama-3.1-405B-Instruct-FP8",
            weight_bytes=1.0,
        ),
    )
}


class UnknownProfile(ValueError):
    """No GPU or model of this name."""


Profile = TypeVar("Profile", GpuProfile, ModelProfile)


def gpu_named(name: str) -> GpuProfile:
    """Raises UnknownProfile."""
    return _named(GPUS, name, "GPU")


def model_named(name: str) -> ModelProfile:
    """Raises UnknownProfile."""
    return _named(MODELS, name, "model")


def _named(profiles: dict[str, Profile], name: str, kind: str) -> Profile:
    profile = profiles.get(name.lower())
    if profile is None:
        raise UnknownProfile(f"There is no {kind} {name!r} to simulate: take one of {', '.join(profiles)}.")
    return profile
