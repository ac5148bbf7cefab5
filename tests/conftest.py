"""Fixtures for every ring: the real servers, each started once in a run and only when a test asks for it."""

pytest_plugins = [
    "servers",
    "engine_fixture",
    "engine_under_test",
    "app_fixture",
    "http_app",
    "served_app",
    "journey_fixture",
    "page_fixture",
]
