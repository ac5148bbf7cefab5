"""How rows become the domain's structs, and structs become arguments."""

from typing import Any

import asyncpg
import msgspec

from triplane.domain.completion import Content, ToolCall
from triplane.domain.conversation import Conversation, ConversationSettings, StoredMessage, TurnSettings

CONVERSATION_COLUMNS = (
    "id, title, metadata, last_seq, active_leaf, created_at, updated_at, pinned, archived, project_id, "
    "temporary, settings"
)
MESSAGE_COLUMNS = (
    "id, seq, role, content_json, status, created_at, parent_id, turn_id, tool_calls, tool_call_id, model, "
    "finish_reason, token_count"
)

_content = msgspec.json.Decoder(Content)
_tool_calls = msgspec.json.Decoder(list[ToolCall])
_metadata = msgspec.json.Decoder(dict[str, str])
_settings = msgspec.json.Decoder(ConversationSettings)
_turn_settings = msgspec.json.Decoder(TurnSettings)
_encoder = msgspec.json.Encoder()


def to_json(value: object) -> str | None:
    """The argument for a json column; None is SQL's null."""
    return None if value is None else _encoder.encode(value).decode()


def to_content(text: str | None) -> Content | None:
    return None if text is None else _content.decode(text)


def to_tool_calls(text: str | None) -> list[ToolCall] | None:
    return None if text is None else _tool_calls.decode(text)


def to_metadata(text: str) -> dict[str, str]:
    return _metadata.decode(text)


def to_turn_settings(text: str | None) -> TurnSettings:
    """Those of a turn; one that is older than settings has none."""
    return _turn_settings.decode(text) if text else TurnSettings()


def to_conversation(row: asyncpg.Record) -> Conversation:
    return Conversation(
        id=row["id"],
        title=row["title"],
        metadata=to_metadata(row["metadata"]),
        last_seq=row["last_seq"],
        active_leaf=row["active_leaf"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        pinned=row["pinned"],
        archived=row["archived"],
        project_id=row["project_id"],
        temporary=row["temporary"],
        settings=_settings.decode(row["settings"]),
    )


def to_message(row: asyncpg.Record) -> StoredMessage:
    given: dict[str, Any] = dict(row)
    return StoredMessage(
        id=given["id"],
        seq=given["seq"],
        role=given["role"],
        content=to_content(given["content_json"]),
        status=given["status"],
        created_at=given["created_at"],
        parent_id=given["parent_id"],
        turn_id=given["turn_id"],
        tool_calls=to_tool_calls(given["tool_calls"]),
        tool_call_id=given["tool_call_id"],
        model=given["model"],
        finish_reason=given["finish_reason"],
        token_count=given["token_count"],
    )
