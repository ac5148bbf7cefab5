"""The timing model against what can be computed by hand."""

import pytest

from triplane.inference.simulated_engine.profiles import GPUS, MODELS, UnknownProfile, gpu_named, model_named
from triplane.inference.simulated_engine.roofline import BLOCK_TOKENS, ModelTooLarge, Roofline

H100_8B = Roofline(GPUS["h100"], MODELS["llama-8b"])


def test_a_decode_step_takes_as_long_as_reading_the_weights() -> None:
    weights_s = 16.06e9 / (3.35e12 * 0.8)

    assert H100_8B.step_seconds([(100, 1)]) == pytest.approx(weights_s + 0.0005, rel=0.01)


def test_a_batch_of_32_decodes_costs_little_more_than_one() -> None:
    assert H100_8B.step_seconds([(500, 1)] * 32) < 1.3 * H100_8B.step_seconds([(500, 1)])


def test_a_long_context_makes_decode_slower_by_its_kv_cache() -> None:
    kv_s = 100_000 * 131072 / (3.35e12 * 0.8)

    longer = H100_8B.step_seconds([(100_000, 1)]) - H100_8B.step_seconds([(0, 1)])

    assert longer == pytest.approx(kv_s, rel=0.01)


def test_prefill_is_bound_by_arithmetic() -> None:
    operations = 2 * 8.03e9 * 8000 + 4 * 32 * 32 * 128 * 8000 * 4000

    assert H100_8B.step_seconds([(0, 8000)]) == pytest.approx(
        operations / (989.5e12 * 0.6) + 0.0005, rel=0.01
    )


@pytest.mark.parametrize("faster", ["h200", "b200"])
def test_more_bandwidth_decodes_faster(faster: str) -> None:
    better = Roofline(GPUS[faster], MODELS["llama-8b"])

    assert better.step_seconds([(500, 1)] * 8) < H100_8B.step_seconds([(500, 1)] * 8)


def test_the_kv_cache_fills_what_the_weights_leave() -> None:
    free = 80e9 * 0.9 - 16.06e9

    assert H100_8B.kv_blocks == int(free // (131072 * BLOCK_TOKENS))


def test_a_model_that_does_not_fit_says_how_many_gpus_it_takes() -> None:
    with pytest.raises(ModelTooLarge, match=r"llama-70b doesn't fit 1 × h100: its weights alone take 2\.0"):
        _ = Roofline(GPUS["h100"], MODELS["llama-70b"]).kv_blocks

    assert Roofline(GPUS["h100"], MODELS["llama-70b"], gpus=4).kv_blocks > 0


@pytest.mark.parametrize("gpu", GPUS)
def test_every_gpu_holds_the_small_model(gpu: str) -> None:
    assert Roofline(gpu_named(gpu), model_named("smollm2")).kv_blocks > 1000


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownProfile, match="h100"):
        gpu_named("voodoo2")
