"""Limits: how much a minute allows and how much may run at once, and what a store of buckets is asked.

A bucket holds what may be used now. It fills continuously, at its rate, up to its capacity; what a request
uses is drawn from it, and comes back when the request needed less. A bucket may owe: what a request needed
more than it had drawn is taken too, and the next one waits until that is paid. Slots bound how many run at
once; each is a lease, which lapses by itself when its holder is gone.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from triplane.domain.completion import CompletionRequest, Message, text_of

Scope = Literal["user", "key", "organisation", "model"]
"""Whose limit it is."""

LimitKind = Literal["requests", "tokens", "concurrent"]

MINUTE_S = 60.0

DEFAULT_PLAN = "default"
"""The plan of whoever has none, or one that no longer exists."""

DEFAULT_ANSWER_TOKENS = 1024
"""Kept free for the answer when the request doesn't say how long it may be."""

_BYTES_PER_TOKEN = 4
"""A rule of thumb, for text that nobody has counted yet."""

TokenLimit = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
"""How long an answer may be."""

PerMinute = Annotated[int, msgspec.Meta(ge=1, le=10**12)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one user, key, organisation or model may have; None is no limit.

    `burst_s` is how much may be saved up and used at once, in seconds of the minute's rate: 60 allows a
    whole minute's worth, 6 a tenth of it. One request may always be saved up.
    """

    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    concurrent: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    burst_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = MINUTE_S


class Quota(msgspec.Struct, frozen=True):
    """Of requests or of tokens: what a minute allows, what may be used now, and when all of it is back."""

    limit: int
    remaining: int
    reset_s: float


class LimitState(msgspec.Struct, frozen=True, kw_only=True):
    """How a caller stands, by the tightest limit of each kind; None where none applies."""

    requests: Quota | None = None
    tokens: Quota | None = None


class Draw(msgspec.Struct, frozen=True):
    """An amount to take from the bucket `name`, which fills by `rate` a second up to `capacity`."""

    name: str
    amount: float
    rate: float
    capacity: float


class Slots(msgspec.Struct, frozen=True):
    """One of `limit` slots to take."""

    name: str
    limit: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks of its buckets: all of it, or none.

    `id` names the holder of its slots. All names carry `tenant` in braces, Redis's mark for keys that belong
    on one node of a cluster.
    """

    id: str
    tenant: str
    draws: tuple[Draw, ...]
    slots: tuple[Slots, ...]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a claim was granted, and how its buckets and slots stand afterwards, in the claim's order.

    A level is negative while the bucket owes.
    """

    granted: bool
    levels: list[float]
    in_use: list[int]


class Return(msgspec.Struct, frozen=True):
    """An amount to put back into a bucket, never over its capacity; below 0 more is taken from it."""

    name: str
    amount: float
    rate: float


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a granted claim: what goes back, and the slots that its holder leaves."""

    id: str
    tenant: str
    returns: tuple[Return, ...]
    slots: tuple[str, ...]


class Lease(msgspec.Struct, frozen=True):
    """A slot of `name` that `holder` has, to be held for longer."""

    name: str
    holder: str


def estimated_tokens(request: CompletionRequest, instructions: Sequence[Message] = ()) -> int:
    """What a request may need, prompt and answer, before anybody counts: for reserving, not for billing.

    What a turn's prompt takes of its history isn't known yet and not in it.
    """
    texts = [text_of(message.content) for message in (*instructions, *request.messages)]
    tools = msgspec.json.encode(request.tools) if request.tools else b""
    size = sum(len(text.encode()) for text in texts) + len(tools)
    return size // _BYTES_PER_TOKEN + len(texts) + (request.sampling.max_tokens or DEFAULT_ANSWER_TOKENS)
