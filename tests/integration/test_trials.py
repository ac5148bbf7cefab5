"""`triplane models test`: each replica is asked by itself, and what is wrong is said plainly."""

import asyncio
from pathlib import Path

import pytest

from simulated_engines import running_simulated_engines
from triplane.cli.errors import CommandFailed
from triplane.cli.trials import try_models
from triplane.inference.catalogue import parse_catalogue
from triplane.inference.engines.opening import EngineOpener
from triplane.inference.simulated_engine.faults import Drop, FaultPlan, Hang, Refuse
from triplane.inference.trial import try_replica
from triplane.settings import Settings, read_settings


def settings_of(folder: Path, catalogue: str) -> Settings:
    (folder / "models.toml").write_text(catalogue)
    return read_settings({"TRIPLANE_DATA_DIR": str(folder)})


async def tried(settings: Settings, model: str | None = None) -> tuple[int, list[str]]:
    said: list[str] = []
    return await try_models(settings, model, said.append), said


async def test_every_replica_of_every_route_is_asked_and_the_broken_ones_are_named(tmp_path: Path) -> None:
    async with running_simulated_engines(4, kv_role="both") as (well, refusing, dropping, reading):
        refusing.faults.set(FaultPlan(faults=[Refuse(status=500)]))
        dropping.faults.set(FaultPlan(faults=[Drop(after_tokens=3)]))
        settings = settings_of(
            tmp_path,
            f"""
            [routes.pair]
            engine = "openai_http"
            urls = ["{well.url}", "{refusing.url}"]
            model = "simulated-llama-8b"
            context_length = 4096
            [routes.apart]
            engine = "vllm"
            urls = ["{dropping.url}"]
            prefill_urls = ["{reading.url}"]
            model = "simulated-llama-8b"
            context_length = 4096
            [routes.keyless]
            engine = "openai_http"
            urls = ["{well.url}"]
            key_env = "NO_SUCH_KEY"
            model = "simulated-llama-8b"
            context_length = 4096
            [models.fast]
            routes = ["pair", "apart", "keyless"]
            """,
        )
        status, said = await tried(settings)

    assert status == 1
    assert len(said) == 5
    assert said[0].startswith("ok       pair@")
    assert "first token after" in said[0]
    assert "tokens/s" in said[0]
    assert [line.split()[0] for line in said] == ["ok", "problem", "problem", "ok", "problem"]
    assert "read a prompt in" in said[3]
    assert "NO_SUCH_KEY isn't set" in said[4]


async def test_one_models_routes_are_enough(tmp_path: Path) -> None:
    async with running_simulated_engines(1) as (engine,):
        settings = settings_of(
            tmp_path,
            f"""
            [routes.well]
            engine = "sglang"
            urls = ["{engine.url}"]
            model = "simulated-llama-8b"
            context_length = 4096
            [routes.gone]
            engine = "sglang"
            urls = ["http://127.0.0.1:9/v1"]
            model = "simulated-llama-8b"
            context_length = 4096
            [models.fast]
            routes = ["well"]
            [models.slow]
            routes = ["gone"]
            """,
        )
        assert (await tried(settings, "fast"))[0] == 0
        status, [said] = await tried(settings, "slow")

    assert status == 1
    assert "can't be reached" in said
    with pytest.raises(CommandFailed, match="there is fast, slow"):
        await tried(settings, "slower")


async def test_an_engine_that_says_nothing_is_given_up() -> None:
    async with running_simulated_engines(1) as (engine,):
        engine.faults.set(FaultPlan(faults=[Hang(after_tokens=2)]))
        route = {
            "engine": "openai_http",
            "urls": [engine.url],
            "model": "simulated-llama-8b",
            "context_length": 4096,
        }
        catalogue = parse_catalogue({"routes": {"one": route}, "models": {"m": {"routes": ["one"]}}})
        async with asyncio.timeout(10):
            trial = await try_replica(catalogue, "one", engine.url, EngineOpener({}), patience_s=0.2)

    assert trial.problem is not None
    assert "within 0.2 s" in trial.problem


async def test_a_replica_that_only_embeds_is_asked_for_an_embedding() -> None:
    async with running_simulated_engines(1) as [server]:
        route = {
            "engine": "vllm",
            "urls": [server.url],
            "model": server.engine.model_id,
            "context_length": 4096,
            "abilities": ["embeddings"],
        }
        catalogue = parse_catalogue(
            {"routes": {"embedder": route}, "models": {"m": {"routes": ["embedder"]}}}
        )
        trial = await try_replica(catalogue, "embedder", server.url, EngineOpener({}))

        assert trial.problem is None
        assert trial.ttft_s is not None
        assert server.engine.simulation.generated == 0
