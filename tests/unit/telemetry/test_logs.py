"""Logs carry ids and never text: the fields, the exceptions, and what libraries say."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from triplane.domain.errors import EngineUnavailable
from triplane.telemetry.logs import WITHHELD, bind_ids, configure_logging, forget_ids

TEXT = "my grandmother's pancake recipe"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", stream)
    yield stream
    forget_ids()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_and_fields(out: io.StringIO) -> None:
    structlog.get_logger("x").info("turn ended", turn_id="turn_1", status="complete", written=True)

    [line] = lines(out)
    assert line["event"] == "turn ended"
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")
    assert (line["turn_id"], line["status"], line["written"]) == ("turn_1", "complete", True)


def test_bound_ids_are_on_every_line_of_a_task_and_of_those_it_starts(out: io.StringIO) -> None:
    async def child() -> None:
        structlog.get_logger("x").info("deeper")

    async def parent() -> None:
        bind_ids(request_id="req_1", tenant_id="tenant_1")
        await asyncio.create_task(child())

    asyncio.run(parent())
    structlog.get_logger("x").info("elsewhere")

    deeper, elsewhere = lines(out)
    assert (deeper["request_id"], deeper["tenant_id"]) == ("req_1", "tenant_1")
    assert "request_id" not in elsewhere
    assert "turn_id" not in deeper


@pytest.mark.parametrize(
    "field",
    [
        "content", "prompt", "messages", "text", "arguments", "authorization", "cookie", "token", "api_key",
        "Set-Cookie", "session_token", "secret_key", "system_prompt", "query_string", "body", "answer_text",
    ],
)  # fmt: skip
def test_a_field_known_to_carry_text_or_a_secret_loses_its_value(out: io.StringIO, field: str) -> None:
    structlog.get_logger("x").warning("careless", **{field: TEXT})

    assert TEXT not in out.getvalue()
    assert lines(out)[0][field] == WITHHELD


def test_text_deeper_down_or_under_another_name_is_withheld_too(out: io.StringIO) -> None:
    log = structlog.get_logger("x")
    log.info("nested", request={"inner": {"content": TEXT}}, rows=[{"text": TEXT}], raw=TEXT.encode())
    log.info("long", note=TEXT * 20)

    assert TEXT not in out.getvalue()


def test_an_object_is_named_by_its_type_only(out: io.StringIO) -> None:
    structlog.get_logger("x").info("object", thing=ValueError(TEXT))

    assert lines(out)[0]["thing"] == "<ValueError>"


def test_ids_counts_and_codes_pass(out: io.StringIO) -> None:
    fields = {"api_key_id": "key_1", "completion_tokens": 7, "code": "overloaded", "retry_after_s": 0.5}
    structlog.get_logger("x").info("refused", **fields)

    assert fields.items() <= lines(out)[0].items()


def fails() -> None:
    prompt = TEXT
    try:
        raise ValueError(f"can't store {prompt}")
    except ValueError as cause:
        raise EngineUnavailable("The engine is down.") from cause


def test_an_exception_is_told_by_types_and_places_without_locals_or_foreign_messages(
    out: io.StringIO,
) -> None:
    try:
        fails()
    except EngineUnavailable:
        structlog.get_logger("x").exception("call failed")

    [line] = lines(out)
    ours, cause = line["exception"]
    assert ours["type"] == "triplane.domain.errors.EngineUnavailable"
    assert ours["message"] == "The engine is down."
    assert cause["type"] == "builtins.ValueError"
    assert "message" not in cause
    assert cause["frames"][-1].endswith(" fails")
    assert TEXT not in out.getvalue()


def test_each_part_of_an_exception_group_is_told(out: io.StringIO) -> None:
    group = ExceptionGroup(TEXT, [ValueError(TEXT), KeyError("x")])
    structlog.get_logger("x").error("several failed", exc_info=group)

    [[first], [second]] = lines(out)[0]["exception"][0]["parts"]
    assert (first["type"], second["type"]) == ("builtins.ValueError", "builtins.KeyError")
    assert TEXT not in out.getvalue()


@pytest.mark.usefixtures("out")
def test_the_debug_level_shows_the_messages_of_exceptions() -> None:
    stream = io.StringIO()
    configure_logging("debug", stream)
    structlog.get_logger("x").error("failed", exc_info=ValueError("because"))

    assert lines(stream)[0]["exception"][0]["message"] == "because"


def test_library_logs_take_the_same_road(out: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("asyncpg").warning("pool is slow\nDETAIL: row contains %s", TEXT)

    started, slow = lines(out)
    assert (started["event"], started["logger"]) == ("Started server process", "uvicorn.error")
    assert slow["event"] == "pool is slow"
    assert TEXT not in out.getvalue()


def test_a_library_exception_is_structured_as_well(out: io.StringIO) -> None:
    try:
        raise RuntimeError(TEXT)
    except RuntimeError:
        logging.getLogger("aiohttp.client").exception("it broke")

    [line] = lines(out)
    assert line["exception"][0]["type"] == "builtins.RuntimeError"
    assert TEXT not in out.getvalue()


def test_access_lines_with_their_query_strings_are_not_logged(out: io.StringIO) -> None:
    logging.getLogger("uvicorn.access").info('"GET /sign-in?token=%s"', "abc")

    assert out.getvalue() == ""


def test_lines_below_the_level_are_dropped(out: io.StringIO) -> None:
    structlog.get_logger("x").debug("detail")
    logging.getLogger("aiohttp").info("chatter")

    assert out.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("out")
def test_a_person_at_a_terminal_reads_plain_lines() -> None:
    screen = Terminal()
    configure_logging("info", screen)
    structlog.get_logger("x").error(
        "call failed", turn_id="turn_1", exc_info=EngineUnavailable("It is down.")
    )

    shown = screen.getvalue()
    assert not shown.startswith("{")
    assert "call failed" in shown
    assert "EngineUnavailable: It is down." in shown
