"""How a turn's rows become the domain's structs."""

import asyncpg

from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.rows import (
    MESSAGE_COLUMNS,
    to_content,
    to_message,
    to_metadata,
    to_tool_calls,
)
from triplane.domain.completion import text_of
from triplane.domain.conversation import Conversation, NewMessage, OpenedTurn, StoredMessage, TurnRecord
from triplane.domain.events import Usage
from triplane.domain.money import EngineCall
from triplane.orchestration.ports import NewTurn

TURN_COLUMNS = """t.id AS turn_id, t.message_id, t.parent_id, t.state, t.created_at AS turn_created_at,
    m.seq AS draft_seq, c.id AS conversation_id, c.title, c.metadata, c.last_seq, c.created_at,
    c.updated_at"""
"""What `to_opened` reads of a turn `t` with these joins."""

JOINS = """JOIN messages m ON m.tenant_id = t.tenant_id AND m.id = t.message_id
JOIN conversations c ON c.tenant_id = t.tenant_id AND c.id = t.conversation_id"""

_INPUT = f"""
WITH RECURSIVE input AS (
    SELECT asked.* FROM messages answer JOIN messages asked
        ON asked.tenant_id = answer.tenant_id AND asked.id = answer.parent_id
    WHERE answer.tenant_id = $1 AND answer.id = $2 AND asked.id IS DISTINCT FROM $3
    UNION ALL
    -- LIMIT keeps the planner to one look-up by primary key for each step.
    SELECT above.* FROM input CROSS JOIN LATERAL (
        SELECT * FROM messages WHERE tenant_id = $1 AND id = input.parent_id LIMIT 1
    ) above WHERE above.id IS DISTINCT FROM $3
)
SELECT {MESSAGE_COLUMNS} FROM input ORDER BY seq"""


async def input_between(
    database: Database, tenant_id: str, answer_id: str, parent_id: str | None
) -> list[StoredMessage]:
    """The messages that a turn brought in: those above its answer, up to what they follow."""
    return [to_message(row) for row in await database.fetch(_INPUT, tenant_id, answer_id, parent_id)]


def to_input(new: NewTurn, row: asyncpg.Record) -> list[StoredMessage]:
    """The rows as `open_turn` has just written them: what it answers is enough to know them."""
    first_seq = row["draft_seq"] - len(new.messages)
    parents = [row["parent_id"], *(each.id for each in new.messages)]
    return [
        _input_row(each, first_seq + place, parents[place], row) for place, each in enumerate(new.messages)
    ]


def _input_row(new: NewMessage, seq: int, parent_id: str | None, row: asyncpg.Record) -> StoredMessage:
    return StoredMessage(
        id=new.id,
        seq=seq,
        role=new.message.role,
        content=new.message.content,
        status="complete",
        created_at=row["turn_created_at"],
        parent_id=parent_id,
        turn_id=row["turn_id"],
        tool_calls=new.message.tool_calls,
        tool_call_id=new.message.tool_call_id,
        token_count=new.token_count,
    )


def to_opened(
    row: asyncpg.Record, input_messages: list[StoredMessage], *, created: bool, fence: int = 1
) -> OpenedTurn:
    return OpenedTurn(
        turn_id=row["turn_id"],
        conversation=Conversation(
            id=row["conversation_id"],
            title=row["title"],
            metadata=to_metadata(row["metadata"]),
            last_seq=row["last_seq"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        ),
        message_id=row["message_id"],
        parent_id=row["parent_id"],
        input_messages=input_messages,
        draft_seq=row["draft_seq"],
        status=row["state"],
        created_at=row["turn_created_at"],
        created=created,
        fence=fence,
    )


def to_record(row: asyncpg.Record) -> TurnRecord:
    return TurnRecord(
        id=row["id"],
        conversation_id=row["conversation_id"],
        message_id=row["message_id"],
        model=row["model"],
        status=row["state"],
        created_at=row["created_at"],
        content=text_of(to_content(row["content_json"])),
        tool_calls=to_tool_calls(row["tool_calls"]),
        finish_reason=row["finish_reason"],
        usage=Usage(
            prompt_tokens=row["prompt_tokens"],
            completion_tokens=row["completion_tokens"],
            cached_tokens=row["cached_tokens"],
        ),
        error_code=row["error_code"],
        error_message=row["error_message"],
        continued_after=row["continued_after"],
        ended_at=row["ended_at"],
        time_to_first_token_ms=row["time_to_first_token_ms"],
    )


def to_call(row: asyncpg.Record) -> EngineCall:
    usage = Usage(
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cached_tokens=row["cached_tokens"],
    )
    return EngineCall(
        attempt=row["attempt"], route=row["route"], replica=row["replica"], usage=usage, cost=row["cost"]
    )
