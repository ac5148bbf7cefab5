"""A simulated engine: vLLM's wire and metric names, and a roofline model in place of a GPU and a model.

It shows how the gateway behaves in front of a fleet that isn't here. What it answers is made up, and its
name, its model ids and its `Server` header say so. docs/simulated-engine.md says what it models.
"""
