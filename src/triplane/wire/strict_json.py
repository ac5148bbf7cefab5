"""JSON held strictly to a type: "5" is not 5, and nothing is silently dropped."""

import functools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from triplane.domain.errors import BodyTooLarge, InvalidRequest, UnsupportedParameter

_AT = re.compile(r"(?P<what>.*?)(?: - at `(?:key` in `)?\$(?P<path>[^`]*)`)?\Z", re.DOTALL)
_FIELD = re.compile(r"Object (?P<how>missing required|contains unknown) field `(?P<name>.*)`\Z", re.DOTALL)
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;|\Z)", re.IGNORECASE)
_MAX_DEPTH = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_json(content_type: str) -> bool:
    """Whether a Content-Type header says that the body is JSON."""
    return _JSON.match(content_type) is not None


def body_too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit:,} bytes, the limit of this server.")


@functools.lru_cache(maxsize=256)
def _decoder(annotation: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(annotation, strict=True)


def decode_strictly(body: bytes, annotation: Any) -> Any:
    """Raises InvalidRequest, with the path of the field that is wrong in `param`."""
    try:
        decoded = _decoder(annotation).decode(body)
        if b"\\u0000" in body:
            _refuse(_find(msgspec.json.decode(body), "\0"), "the NUL character")
        if body.count(b"[") + body.count(b"{") > _MAX_DEPTH:
            _refuse_deep(msgspec.json.decode(body))
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from None
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    except msgspec.DecodeError as error:
        _refuse_lone_surrogates(body)
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    return decoded


def _wrong_field(message: str) -> InvalidRequest:
    match = _AT.match(message)
    assert match is not None, "the pattern matches every text"
    what, path = match["what"], (match["path"] or "").lstrip(".").replace("[...]", "")
    field = _FIELD.match(what)
    if field is None:
        return InvalidRequest(f"{path or 'The body'}: {what}.", param=path or None)
    path = f"{path}.{field['name']}".lstrip(".")
    if field["how"] == "missing required":
        return InvalidRequest(f"The field `{path}` is required.", param=path)
    return UnsupportedParameter(f"The field `{path}` is not supported.", param=path)


def _refuse_lone_surrogates(body: bytes) -> None:
    """Half of a surrogate pair is not text, and no store takes it: say where it stands."""
    if b"\\ud" not in body.lower():
        return
    try:
        path = _find(json.loads(body), _SURROGATE)
    except (ValueError, RecursionError):
        return
    _refuse(path, "half of a surrogate pair")


def _refuse_deep(value: Any) -> None:
    """What is read at one depth of the stack may be written at another: leave room between the two."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise _too_deep()


def _children(value: Any) -> Iterable[Any]:
    inside = value.values() if isinstance(value, dict) else value
    return [child for child in inside if isinstance(child, dict | list)]


def _too_deep() -> InvalidRequest:
    return InvalidRequest("The body is nested too deeply.")


def _refuse(path: str | None, what: str) -> None:
    if path is not None:
        raise InvalidRequest(f"{path or 'The body'}: the text contains {what}.", param=path or None)


def _find(value: Any, wanted: "str | re.Pattern[str]") -> str | None:
    """The path of the first text with what is wanted in it."""
    return next((path for path, text in _texts(value, "") if re.search(wanted, text)), None)


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield path, key
            yield from _texts(item, f"{path}.{key}".lstrip("."))
