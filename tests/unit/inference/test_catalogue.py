"""`models.toml`: what is right is read, and what is wrong is told with its place."""

import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from triplane.domain.events import Usage
from triplane.inference.catalogue import CatalogueError, Route, parse_catalogue, read_catalogue
from triplane.inference.engines.opening import EngineOpener
from triplane.inference.offers import card_of_model, catalogue_view

DOCS = Path(__file__).parents[3] / "docs"

WHOLE = """
[plans.free]
weight = 1
priority = 10
[plans.pro]
weight = 4

[routes.cheap]
engine = "sglang"
urls = ["http://10.0.0.1:30000/v1"]
context_length = 8192
[routes.local]
engine = "vllm"
urls = ["http://10.0.0.2:8000/v1", "http://10.0.0.3:8000/v1"]
prefill_urls = ["http://10.0.0.4:8000/v1"]
model = "meta-llama/Llama-3.1-8B-Instruct"
context_length = 131072
slots = 64
price = { input = 0.15, cached = 0.075, output = 0.6 }
timeouts = { first_token_s = 30, total_s = 600 }
[routes.cloud]
engine = "openai_http"
urls = ["https://api.example.com/v1"]
key_env = "CLOUD_KEY"
context_length = 128000
[models.fast]
routes = [{ local = 95, cloud = 5 }, "cheap"]
cascade = { route = "cheap", min_confidence = 0.7 }
degrade = [{ over_wait_s = 2, tools = false }, { over_wait_s = 5, model = "small" }]
[models.small]
routes = ["cheap"]
"""


def whole() -> dict[str, Any]:
    return tomllib.loads(WHOLE)


def test_a_whole_catalogue_is_read() -> None:
    catalogue = parse_catalogue(whole())

    local = catalogue.routes["local"]
    assert local.price.cost_of(Usage(prompt_tokens=3, cached_tokens=1, completion_tokens=2)) == 1575
    assert local.price.input == Decimal("0.15")
    assert local.timeouts.first_token_s == 30
    assert list(catalogue.models["fast"].route_names()) == ["cheap", "local", "cloud", "cheap"]


def test_the_card_tells_what_all_of_the_first_routes_can() -> None:
    card = card_of_model(parse_catalogue(whole()), "fast")

    assert (card.context_length, card.supports_tools, card.supports_images) == (128000, True, False)
    assert card.supports_continuation


def test_administrators_see_all_that_a_route_can() -> None:
    raw = whole()
    raw["routes"]["cloud"]["abilities"] = ["vision", "logprobs"]
    fast, small = catalogue_view(parse_catalogue(raw)).models

    local, cloud = fast.routes[1:3]
    assert (local.name, local.abilities) == ("local", ["tools", "json_schema", "continuation", "logprobs"])
    assert (cloud.name, cloud.abilities) == ("cloud", ["vision", "logprobs"])
    assert small.offer == card_of_model(parse_catalogue(raw), "small").offer


def test_an_unknown_plan_is_the_default_one() -> None:
    raw = whole()
    assert parse_catalogue(raw).plan("nobody knows").weight == 1

    raw["plans"]["default"] = {"weight": 7}

    assert parse_catalogue(raw).plan("nobody knows").weight == 7


BREAK = {
    "no models": ({"models": {}}, "there is no model"),
    "an unknown engine": ({"routes.local.engine": "gpt"}, "routes.local.engine: "),
    "an unknown setting": ({"routes.local.slot": 4}, "routes.local: Object contains unknown field `slot`"),
    "no address": ({"routes.local.urls": []}, "routes.local.urls: "),
    "a wrong address": ({"routes.local.urls": ["ftp://x"]}, "routes.local: 'ftp://x'"),
    "a secret in an address": ({"routes.local.urls": ["http://me:pass@x"]}, "routes.local: 'x' is no"),
    "an address without a host": ({"routes.local.urls": ["http://"]}, "routes.local: 'http://'"),
    "an address that is none": ({"routes.local.urls": ["http://[x"]}, "routes.local: 'http://[x'"),
    "embedded where it can't be": ({"routes.local.urls": ["embedded"]}, "routes.local: 'embedded'"),
    "an address twice": ({"routes.local.urls": ["http://a", "http://a"]}, "routes.local.urls"),
    "two keys": ({"routes.cloud.key_file": "x"}, "routes.cloud has key_env and key_file"),
    "a prefill pool of a wrong kind": (
        {"routes.cheap.prefill_urls": ["http://a"]},
        "routes.cheap.prefill_urls",
    ),
    "no slots": ({"routes.local.slots": 0}, "routes.local.slots: "),
    "a negative price": ({"routes.local.price.input": -1}, "routes.local.price: "),
    "a price that is no number": ({"routes.local.price.input": float("nan")}, "routes.local.price: "),
    "no time": ({"routes.local.timeouts.total_s": 0}, "routes.local.timeouts.total_s: "),
    "no weight": ({"plans.free.weight": 0}, "plans.free.weight: "),
    "no routes": ({"models.fast.routes": []}, "models.fast.routes: "),
    "a route that there is none of": ({"models.small.routes": ["x"]}, "models.small names the route 'x'"),
    "one in a canary": ({"models.small.routes": [{"x": 1, "local": 1}]}, "models.small names the route 'x'"),
    "no share": ({"models.small.routes": [{"local": 0}]}, "models.small.routes[0]"),
    "an unsure confidence": (
        {"models.fast.cascade.min_confidence": 2},
        "models.fast.cascade.min_confidence: ",
    ),
    "a cascade that can't tell": ({"routes.cheap.engine": "anthropic_http"}, "models.fast.cascade"),
    "a ladder upside down": (
        {"models.fast.degrade": [{"over_wait_s": 5, "tools": False}, {"over_wait_s": 1, "tools": False}]},
        "models.fast.degrade: sort",
    ),
    "a step to itself": (
        {"models.fast.degrade": [{"over_wait_s": 5, "model": "fast"}]},
        "'fast' is no other",
    ),
    "a step to a model that only embeds": (
        {"routes.cheap.abilities": ["embeddings"]},
        "models.fast.degrade: 'small' only embeds",
    ),
    "a step to nowhere": ({"models.fast.degrade": [{"over_wait_s": 5, "model": "x"}]}, "'x' is no other"),
    "a name with a blank": ({"models.a b": {"routes": ["local"]}}, "`key` in `$.models`"),
}


@pytest.mark.parametrize(("changes", "place"), BREAK.values(), ids=BREAK)
def test_what_is_wrong_is_told_with_its_place(changes: dict[str, Any], place: str) -> None:
    raw = whole()
    for path, value in changes.items():
        *parents, last = path.split(".")
        table = raw
        for parent in parents:
            table = table[parent]
        table[last] = value

    with pytest.raises(CatalogueError) as error:
        parse_catalogue(raw)

    assert place in str(error.value)


def test_every_problem_is_told_at_once() -> None:
    raw = whole()
    raw["routes"]["local"]["urls"] = ["x"]
    raw["models"]["small"]["routes"] = ["y"]

    with pytest.raises(CatalogueError, match=r"routes\.local.*; .*models\.small"):
        parse_catalogue(raw)


@pytest.mark.parametrize("text", ["[models", "\ud800", None], ids=["no TOML", "no UTF-8", "no file"])
def test_a_file_that_cannot_be_read_is_named(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    if text is not None:
        file.write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(CatalogueError, match=r"models\.toml"):
        read_catalogue(file)


def examples() -> list[str]:
    blocks = [
        block
        for page in sorted(DOCS.glob("*.md"))
        for block in re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    return [block for block in blocks if "[models." in block and "[routes." in block]


def test_the_examples_of_the_docs_are_catalogues() -> None:
    assert examples()
    for example in examples():
        parse_catalogue(tomllib.loads(example))


def names(urls: list[str]) -> list[str]:
    route = Route(engine="vllm", urls=urls, context_length=100)
    return [EngineOpener({})("r", route, url).name for url in urls]


def test_a_replica_is_named_by_its_route_and_where_there_are_several_by_its_address() -> None:
    assert names(["http://a:1/v1"]) == ["r"]
    assert names(["http://a:1/v1", "http://a:1/other/v1"]) == ["r@a:1", "r@a:1/other"]
    assert names(["http://a:1/v1", "https://b"]) == ["r@a:1", "r@b"]


@pytest.mark.parametrize("key", [{"key_env": "NOT_SET"}, {"key_file": "/nowhere/key"}])
def test_a_key_that_is_not_there_is_told_by_its_setting(key: dict[str, str]) -> None:
    route = Route(engine="openai_http", urls=["http://a"], context_length=100, **key)  # type: ignore[arg-type]

    with pytest.raises(CatalogueError, match=rf"routes\.r\.{next(iter(key))}"):
        EngineOpener({})("r", route, "http://a")
