"""A made-up JSON value that a JSON Schema allows, for tool calls and response formats.

Knows type, enum, const, properties, required, items, anyOf/oneOf, $ref, minimum, minItems, minLength and
maxLength; everything else is left out of account.
"""

from random import Random
from typing import Any

_TEXTS = ("amber", "birch", "coral", "delta")
_DEEPEST = 12


def example(schema: Any, random: Random) -> Any:
    """A value for this schema; for one that says nothing, a text."""
    root = schema if isinstance(schema, dict) else {}
    return _value(root, root, random, 0)


def _value(schema: Any, root: dict[str, Any], random: Random, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    if "$ref" in schema:
        return _value(_target(schema["$ref"], root), root, random, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return random.choice(schema["enum"])
    for name in ("anyOf", "oneOf"):
        if schema.get(name):
            return _value(schema[name][0], root, random, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: _value(part, root, random, depth + 1) for name, part in properties.items()}
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        return [_value(schema.get("items", {}), root, random, depth + 1) for _ in range(count)]
    return _scalar(kind, schema, random)


def _scalar(kind: str, schema: dict[str, Any], random: Random) -> Any:
    if kind in ("integer", "number"):
        return schema.get("minimum", 0) + random.randrange(10)
    if kind == "boolean":
        return random.random() < 0.5
    if kind == "null":
        return None
    text = random.choice(_TEXTS)
    text += "x" * (int(schema.get("minLength", 0)) - len(text))
    return text[: int(schema.get("maxLength", len(text)))]


def _target(reference: Any, root: dict[str, Any]) -> Any:
    """What a reference within the schema (`#/$defs/name`) points to."""
    found: Any = root
    for name in str(reference).removeprefix("#/").split("/"):
        found = found.get(name) if isinstance(found, dict) else None
    return found
