"""Logs: one JSON object a line on standard error, with ids and never with text.

Rooms call `structlog.get_logger(__name__)` and say what happened in a constant sentence with ids as fields;
what the libraries say through the standard library's logging takes the same road. A safety net withholds
fields whose names say that they hold text or secrets, and the messages of exceptions that aren't ours,
because a driver quotes values in them; the debug level shows those messages.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from triplane.telemetry.tracebacks import readable_traceback, structured_traceback

WITHHELD = "[withheld]"

_TEXT_FIELDS = frozenset(
    [
        "answer", "api_key", "apikey", "arguments", "authorization", "body", "content", "cookie",
        "cookies", "data", "delta", "headers", "input", "key", "message", "messages", "output",
        "params", "password", "payload", "prompt", "query", "query_string", "reply", "secret",
        "session", "set_cookie", "system", "text", "title", "token", "tool_calls", "url",
    ]
)  # fmt: skip
_TEXT_ENDINGS = ("_text", "_content", "_token", "_secret", "_key", "_password", "_prompt", "_cookie", "_body")
_OUR_OWN = frozenset({"event", "exc_info"})
_LONGEST_ID = 300
_MAX_FOREIGN_MESSAGE = 300


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send the whole process's logs to `stream` (standard error by default) from `level` upwards.

    JSON lines, or readable lines where a person looks on (a terminal).
    """
    out = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared = _shared_processors(shows_messages=number <= logging.DEBUG)
    renderer = _renderer(out)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _route_standard_logging(out, number, shared, renderer)


def bind_ids(
    *,
    request_id: str | None = None,
    turn_id: str | None = None,
    conversation_id: str | None = None,
    tenant_id: str | None = None,
    trace_id: str | None = None,
) -> None:
    """Put these ids on every line that this task, and the tasks it starts, will log."""
    ids = {
        "request_id": request_id,
        "turn_id": turn_id,
        "conversation_id": conversation_id,
        "tenant_id": tenant_id,
        "trace_id": trace_id,
    }
    structlog.contextvars.bind_contextvars(**{name: value for name, value in ids.items() if value})


def forget_ids() -> None:
    """Take all ids off again, where a task begins with something else."""
    structlog.contextvars.clear_contextvars()


def withhold_text(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """The safety net: a field that is known to carry text or a secret keeps its name and loses its value."""
    for name, value in fields.items():
        if name not in _OUR_OWN:
            fields[name] = WITHHELD if _carries_text(name) else _without_text(value)
    return fields


def _without_text(value: Any) -> Any:
    """An id or a code is short, so a long string is text, whatever its field is called."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_ID else WITHHELD
    if isinstance(value, Mapping):
        return {
            name: WITHHELD if _carries_text(name) else _without_text(part) for name, part in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_text(part) for part in value]
    return WITHHELD if isinstance(value, bytes | bytearray) else value


def _carries_text(name: object) -> bool:
    plain = str(name).lower().replace("-", "_")
    return plain in _TEXT_FIELDS or plain.endswith(_TEXT_ENDINGS)


def _shared_processors(*, shows_messages: bool) -> list[Processor]:
    def format_exception(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
        failure = fields.pop("exc_info", None)
        if failure is True:
            failure = sys.exc_info()
        if isinstance(failure, tuple):
            failure = failure[1]
        if isinstance(failure, BaseException):
            fields["exception"] = structured_traceback(failure, shows_messages=shows_messages)
        return fields

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        withhold_text,
        format_exception,
    ]


def _renderer(out: TextIO) -> Processor:
    if not out.isatty():
        return _as_json
    console = structlog.dev.ConsoleRenderer()

    def for_people(logger: WrappedLogger, method: str, fields: EventDict) -> str:
        if isinstance(fields.get("exception"), list):
            fields["exception"] = readable_traceback(fields["exception"])
        return console(logger, method, fields)

    return for_people


def _as_json(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    """One line; what isn't JSON by nature is named by its type, for its text might be anything."""
    return msgspec.json.encode(fields, enc_hook=_type_name).decode()


def _type_name(value: Any) -> str:
    return f"<{type(value).__name__}>"


def _route_standard_logging(out: TextIO, level: int, shared: list[Processor], renderer: Processor) -> None:
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _first_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "litestar", "asyncio"):
        library = logging.getLogger(name)
        library.handlers[:] = []
        library.propagate = True
    logging.getLogger("uvicorn.error").setLevel(level)
    # An access line holds the query string, and ours may carry a sign-in token; metrics count requests.
    logging.getLogger("uvicorn.access").propagate = False
    logging.captureWarnings(True)


def _first_line(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Libraries put representations of whole objects behind a message's first line."""
    event = str(fields.get("event", ""))
    fields["event"] = event.partition("\n")[0][:_MAX_FOREIGN_MESSAGE]
    return fields
