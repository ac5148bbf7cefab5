"""The gateway's words as protocol buffers, and back. Pure."""

from collections.abc import Sequence
from typing import Any, cast, get_args

import msgspec

from triplane.domain.completion import ModelCard, ModelOffer
from triplane.domain.embeddings import Vector
from triplane.domain.errors import Busy, EngineFailed, TriplaneError, error_from_code
from triplane.domain.events import (
    Delta,
    EngineEvent,
    Failed,
    Finished,
    FinishReason,
    Started,
    ToolCallDelta,
    Usage,
)
from triplane.domain.money import EngineCall
from triplane.inference.service.rpc import gateway_pb2 as pb

SERVICE = "triplane.gateway.v1.Gateway"
ERROR_KEY = "triplane-error-bin"

_REASONS = frozenset(get_args(FinishReason))


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as it travels in the trailing metadata."""

    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None


def refusal_of(error: TriplaneError) -> bytes:
    retry_after_s = error.retry_after_s if isinstance(error, Busy) else None
    return msgspec.json.encode(
        Refusal(code=error.code, message=error.message, param=error.param, retry_after_s=retry_after_s)
    )


def error_of(raw: bytes) -> TriplaneError:
    """The error that was refused with. Nonsense is an EngineFailed."""
    try:
        refusal = msgspec.json.decode(raw, type=Refusal)
    except msgspec.DecodeError:
        return EngineFailed("The gateway failed without saying why.")
    error = error_from_code(refusal.code, refusal.message)
    error.param = refusal.param
    if isinstance(error, Busy) and refusal.retry_after_s is not None:
        error.retry_after_s = refusal.retry_after_s
    return error


def progress(events: Sequence[EngineEvent], calls: Sequence[EngineCall], *, is_over: bool) -> pb.Progress:
    return pb.Progress(
        events=[_event(each) for each in events], calls=[_call(each) for each in calls], is_over=is_over
    )


def events_of(message: pb.Progress) -> list[EngineEvent]:
    return [_event_of(each) for each in message.events]


def embedding_message(
    vectors: Sequence[Vector], calls: Sequence[EngineCall], usage: Usage, error: TriplaneError | None
) -> pb.EmbedResponse:
    return pb.EmbedResponse(
        vectors=vectors,
        calls=[_call(each) for each in calls],
        usage=_usage(usage),
        error=refusal_of(error) if error else b"",
    )


def usage_in(message: pb.EmbedResponse) -> Usage:
    return _usage_of(message.usage)


def calls_of(message: pb.Progress | pb.EmbedResponse) -> list[EngineCall]:
    return [
        EngineCall(
            attempt=each.attempt,
            route=each.route,
            replica=each.replica,
            usage=_usage_of(each.usage),
            cost=each.cost_nano_dollars,
        )
        for each in message.calls
    ]


def model_message(card: ModelCard) -> pb.Model:
    return pb.Model(
        id=card.id,
        context_length=card.context_length,
        owned_by=card.owned_by,
        supports_tools=card.supports_tools,
        supports_images=card.supports_images,
        supports_continuation=card.supports_continuation,
        offer=msgspec.json.encode(card.offer) if card.offer else b"",
        supports_embeddings=card.supports_embeddings,
        supports_chat=card.supports_chat,
    )


def card_of(message: pb.Model) -> ModelCard:
    return ModelCard(
        id=message.id,
        context_length=message.context_length,
        owned_by=message.owned_by,
        supports_tools=message.supports_tools,
        supports_images=message.supports_images,
        supports_continuation=message.supports_continuation,
        offer=msgspec.json.decode(message.offer, type=ModelOffer) if message.offer else None,
        supports_embeddings=message.supports_embeddings,
        supports_chat=message.supports_chat,
    )


def _event(event: EngineEvent) -> pb.Event:
    match event:
        case Delta(text=text, logprobs=logprobs):
            return pb.Event(delta=pb.Delta(text=text, logprobs=_json(logprobs)))
        case ToolCallDelta():
            call = pb.ToolCallDelta(
                index=event.index, id=event.id, name=event.name, arguments=event.arguments
            )
            return pb.Event(tool_call=call)
        case Started():
            started = pb.Started(
                engine=event.engine,
                model=event.model,
                degraded=event.degraded,
                is_cached=event.is_cached,
            )
            return pb.Event(started=started)
        case Finished():
            return pb.Event(finished=pb.Finished(reason=event.reason, usage=_usage(event.usage)))
        case Failed():
            failed = pb.Failed(code=event.code, message=event.message, retryable=event.retryable)
            if event.usage is not None:
                failed.usage.CopyFrom(_usage(event.usage))
            return pb.Event(failed=failed)


def _event_of(message: pb.Event) -> EngineEvent:
    match message.WhichOneof("kind"):
        case "delta":
            return Delta(text=message.delta.text, logprobs=_logprobs_of(message.delta.logprobs))
        case "tool_call":
            call = message.tool_call
            return ToolCallDelta(
                index=call.index,
                id=call.id if call.HasField("id") else None,
                name=call.name if call.HasField("name") else None,
                arguments=call.arguments,
            )
        case "started":
            begun = message.started
            return Started(
                engine=begun.engine,
                model=begun.model,
                degraded=list(begun.degraded),
                is_cached=begun.is_cached,
            )
        case "finished":
            reason = message.finished.reason
            known = cast(FinishReason, reason) if reason in _REASONS else "stop"
            return Finished(reason=known, usage=_usage_of(message.finished.usage))
        case _:
            failed = message.failed
            usage = _usage_of(failed.usage) if failed.HasField("usage") else None
            return Failed(code=failed.code, message=failed.message, retryable=failed.retryable, usage=usage)


def _json(value: list[dict[str, Any]] | None) -> bytes:
    return b"" if value is None else msgspec.json.encode(value)


def _logprobs_of(raw: bytes) -> list[dict[str, Any]] | None:
    return msgspec.json.decode(raw, type=list[dict[str, Any]]) if raw else None


def _usage(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
    )


def _usage_of(message: pb.Usage) -> Usage:
    return Usage(
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        cached_tokens=message.cached_tokens,
    )


def _call(call: EngineCall) -> pb.EngineCall:
    return pb.EngineCall(
        attempt=call.attempt,
        route=call.route,
        replica=call.replica,
        usage=_usage(call.usage),
        cost_nano_dollars=call.cost,
    )
