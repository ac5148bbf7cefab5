"""Fixtures for every ring: the real servers, each started once in a run and only when a test asks for it."""

from importlib.util import find_spec

pytest_plugins = [
    name for name in ("servers", "engine_fixture", "app_fixture", "http_app", "served_app") if find_spec(name)
]
