"""Typed ids: a prefix that says what the thing is, and a UUIDv7 (RFC 9562) in 32 hex digits.

UUIDv7 starts with the time in milliseconds, so ids sort by when they were made and index well.
"""

import re
from typing import Literal

import uuid_utils

Kind = Literal[
    "tenant", "user", "key", "session", "conv", "msg", "turn", "usage", "req", "call", "claim", "audit"
]

_ID = re.compile(r"[a-z]+_[0-9a-f]{32}\Z")


def new_id(kind: Kind) -> str:
    """A new id such as `conv_0199f…` (prefix, underscore, 32 hex digits)."""
    return f"{kind}_{uuid_utils.uuid7().hex}"


def is_id(kind: Kind, text: str) -> bool:
    """Whether `text` has the form of an id of this kind; says nothing of whether the thing exists."""
    return text.startswith(f"{kind}_") and _ID.match(text) is not None
