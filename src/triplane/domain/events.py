"""What flows: the gateway's events of one completion, and the replay log's events of one turn.

A completion's stream is `Started (Delta | ToolCallDelta)* (Finished | Failed)`; exactly one of the last
two ends it. A turn's log is `TurnStarted (Delta | ToolCallDelta)* Finished? TurnEnded`:
`Finished` says that the answer is whole, `TurnEnded` that it is stored. The log of an answer that was
continued goes on behind its `TurnEnded`, without another `TurnStarted`, to the next one.
"""

from typing import Any, Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]

TurnStatus = Literal["streaming", "complete", "incomplete", "stopped", "failed"]
"""`streaming` until it ends; then one of the others, for good (Continue starts it again)."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one completion, as the engine counted them. `cached_tokens` are part of the prompt's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started", omit_defaults=True):
    """An engine took the request. `model` is the id that the engine itself reports for its model.

    `degraded` names what was left out because of the load, such as `tools_off` or `model:small`. With
    `is_cached` the answer comes from the response cache, and no engine was asked.
    """

    engine: str
    model: str
    degraded: list[str] = []
    is_cached: bool = False


class Delta(msgspec.Struct, frozen=True, kw_only=True, tag="delta", omit_defaults=True, gc=False):
    """A piece of the answer's text. `logprobs` is OpenAI's `choices[0].logprobs.content`, if asked for."""

    text: str
    logprobs: list[dict[str, Any]] | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True, tag="tool_call", omit_defaults=True):
    """A piece of the tool call at `index`; the first one carries its id and name."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    reason: FinishReason
    usage: Usage


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed", omit_defaults=True):
    """The stream broke after it had started. `usage` is what the engine is known to have computed."""

    code: str
    message: str
    retryable: bool
    usage: Usage | None = None


EngineEvent = Started | Delta | ToolCallDelta | Finished | Failed


class TurnStarted(msgspec.Struct, frozen=True, kw_only=True, tag="turn_started", omit_defaults=True):
    """The last two are those of `Started`."""

    turn_id: str
    conversation_id: str
    message_id: str
    model: str
    created: int
    degraded: list[str] = []
    is_cached: bool = False


class TurnError(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str


class TurnEnded(msgspec.Struct, frozen=True, kw_only=True, tag="turn_ended", omit_defaults=True):
    """The turn's one terminal event; it agrees with the turn's row."""

    status: TurnStatus
    finish_reason: FinishReason | None = None
    usage: Usage = Usage()
    error: TurnError | None = None


TurnEvent = TurnStarted | Delta | ToolCallDelta | Finished | TurnEnded


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An event at its place in a turn's replay log. Positions count 1, 2, 3 … without a gap."""

    position: int
    event: TurnEvent
