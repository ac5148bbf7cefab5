"""Triplane: a ChatGPT-class product in three planes. `docs/architecture.md` is the map."""

__version__ = "0.1.0"
