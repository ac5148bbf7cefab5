"""A catalogue that changes while it is served: what runs and what waits goes on, what is new serves anew."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from instant_loop import now, run_instantly, settle
from scripted_engines import MODEL, ScriptedEngine, ask, complete, says
from triplane.domain.errors import EngineFailed, EngineUnavailable, ModelNotFound
from triplane.domain.events import Delta
from triplane.inference import catalogue_file
from triplane.inference.catalogue import Catalogue, CatalogueError, Route, parse_catalogue
from triplane.inference.catalogue_file import follow_catalogue
from triplane.inference.gateway import Gateway


def catalogue(urls: Mapping[str, str], plans: Mapping[str, Any] | None = None, **settings: Any) -> Catalogue:
    """A model over these routes, each with one address."""
    route = {"engine": "vllm", "context_length": 1000, **settings}
    return parse_catalogue(
        {
            "routes": {name: {**route, "urls": [url]} for name, url in urls.items()},
            "models": {MODEL: {"routes": list(urls)}},
            "plans": plans or {},
        }
    )


class Builder:
    """Makes an engine for each address that it is asked for, and keeps all of them."""

    def __init__(self, **scripts: ScriptedEngine) -> None:
        self.made: list[str] = []
        self.engines = scripts

    def __call__(self, name: str, _route: Route, url: str) -> ScriptedEngine:
        host = url.removeprefix("http://")
        if host == "no-key":
            raise CatalogueError("the key isn't there")
        self.made.append(host)
        return self.engines.setdefault(host, ScriptedEngine(says(f"from {host}")))


def test_a_route_that_is_as_it_was_stays_even_if_plans_change() -> None:
    async def reload() -> None:
        build = Builder()
        gateway = Gateway(catalogue({"a": "http://one"}), build, now=now)
        for plans in ({}, {"pro": {"weight": 3}}):
            await gateway.reload(catalogue({"a": "http://one", "b": "http://two"}, plans))
        assert build.made == ["one", "two"]
        assert not build.engines["one"].is_closed

    run_instantly(reload())


def test_a_stream_outlives_its_route_and_closes_its_engine_behind_it() -> None:
    async def reload() -> None:
        build = Builder(one=ScriptedEngine(says("a", "b", "c")))
        gateway = Gateway(catalogue({"a": "http://one"}), build, now=now)
        completion = await gateway.complete(ask())
        await completion.take_events()

        await gateway.reload(catalogue({"a": "http://two"}))
        await gateway.look()

        assert not build.engines["one"].is_closed
        assert (await complete(gateway, ask())).text == "from two"
        rest = [event async for event in completion]
        assert [each.text for each in rest if isinstance(each, Delta)] == ["a", "b", "c"]
        await completion.aclose()
        await gateway.look()
        assert build.engines["one"].is_closed

    run_instantly(reload())


def test_an_engine_nobody_uses_is_closed_at_once() -> None:
    async def reload() -> None:
        build = Builder()
        gateway = Gateway(catalogue({"a": "http://one"}), build, now=now)
        await complete(gateway, ask())
        await gateway.reload(catalogue({"b": "http://two"}))
        assert build.engines["one"].is_closed

    run_instantly(reload())


def test_who_waited_for_the_old_route_is_served_by_it() -> None:
    async def reload() -> None:
        build = Builder()
        gateway = Gateway(catalogue({"a": "http://one"}, slots=1), build, now=now)
        holding = await gateway.complete(ask())
        waiting = asyncio.create_task(complete(gateway, ask()))
        await settle()

        await gateway.reload(catalogue({"a": "http://two"}, slots=1))
        await gateway.look()
        await holding.aclose()

        assert (await waiting).text == "from one"
        await gateway.look()
        assert build.engines["one"].is_closed

    run_instantly(reload())


def test_an_answer_falls_back_to_a_route_that_has_left_the_catalogue_meanwhile() -> None:
    async def reload() -> None:
        build = Builder(one=ScriptedEngine(says("a", EngineFailed("broken"))))
        gateway = Gateway(catalogue({"a": "http://one", "b": "http://two"}, retries=0), build, now=now)
        completion = await gateway.complete(ask())

        await gateway.reload(catalogue({"c": "http://three"}))
        await gateway.look()

        assert [e.text async for e in completion if isinstance(e, Delta)] == ["a", "from two"]
        await completion.aclose()
        await gateway.look()
        assert build.engines["one"].is_closed
        assert build.engines["two"].is_closed

    run_instantly(reload())


def test_a_catalogue_that_cannot_be_served_changes_nothing() -> None:
    async def reload() -> None:
        gateway = Gateway(catalogue({"a": "http://one"}), Builder(), now=now)
        with pytest.raises(CatalogueError):
            await gateway.reload(catalogue({"b": "http://two", "c": "http://no-key"}))
        assert (await complete(gateway, ask())).text == "from one"

    run_instantly(reload())


def test_a_reload_in_the_middle_of_a_request_that_is_degraded_is_no_accident() -> None:
    """The count of tokens takes a while; behind it the model's old routes are gone."""

    async def reload() -> None:
        degrade = [{"over_wait_s": 1, "context_tokens": 1}]
        of = {"engine": "vllm", "context_length": 1000}
        before = {"a": {**of, "urls": ["http://one"], "slots": 1, "max_wait_s": 1000}}
        models = {MODEL: {"routes": ["a"], "degrade": degrade}}
        gateway = Gateway(parse_catalogue({"routes": before, "models": models}), Builder(), now=now)
        holding = await gateway.complete(ask())
        await asyncio.sleep(10)
        coming = asyncio.create_task(complete(gateway, ask()))
        await asyncio.sleep(0)

        await gateway.reload(catalogue({"b": "http://two"}))

        assert (await coming).text == "from two"
        await holding.aclose()

    run_instantly(reload())


def test_a_model_that_is_gone_is_not_found() -> None:
    async def reload() -> None:
        gateway = Gateway(catalogue({"a": "http://one"}), Builder(), now=now)
        with pytest.raises(ModelNotFound):
            await gateway.complete(ask(model="gone"))

    run_instantly(reload())


def test_the_check_is_about_every_model_by_any_of_its_routes() -> None:
    async def check() -> None:
        build = Builder()
        gateway = Gateway(catalogue({"a": "http://one", "b": "http://two"}), build, now=now)
        build.engines["one"].is_well = False
        await gateway.check()
        build.engines["two"].is_well = False
        with pytest.raises(EngineUnavailable):
            await gateway.check()

    run_instantly(check())


async def test_a_changed_file_is_served_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_file, "LOOK_EVERY_S", 0.001)
    file, seen = tmp_path / "models.toml", asyncio.Queue[list[str]]()

    async def take(new: Catalogue) -> None:
        if "refused" in new.models:
            raise CatalogueError("its key isn't there")
        seen.put_nowait(list(new.models))

    def write(model: str, route: str = "a") -> None:
        text = f'[routes.a]\nengine = "vllm"\nurls = ["http://x"]\ncontext_length = 9\n[models.{model}]\n'
        written = tmp_path / "written"
        written.write_text(f'{text}routes = ["{route}"]\n')
        written.rename(file)

    write("first")
    following = asyncio.create_task(follow_catalogue(file, take))
    await asyncio.sleep(0)
    for model, route in (("broken", "x"), ("second", "a"), ("refused", "a"), ("third", "a")):
        write(model, route)
        if model in ("second", "third"):
            async with asyncio.timeout(10):
                assert await seen.get() == [model]
    file.unlink()
    write("fourth")
    async with asyncio.timeout(10):
        assert await seen.get() == ["fourth"]
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
