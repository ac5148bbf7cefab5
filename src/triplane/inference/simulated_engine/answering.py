"""One chat completion on its way to its client: tokens in, chunks out, faults in between."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from triplane.inference.simulated_engine import wire
from triplane.inference.simulated_engine.answers import Reason
from triplane.inference.simulated_engine.connection import Exchange
from triplane.inference.simulated_engine.faults import Drop, ErrorEvent, Fault, Garbage, Hang
from triplane.inference.simulated_engine.logprobs import token_logprobs
from triplane.inference.simulated_engine.sequence import Sequence


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request, for comparison with what its client thinks. Tokens as computed here.

    `delivered` tokens were written to the client; a request that ended early may have computed more.
    """

    request_id: str
    ended: str
    prompt_tokens: int
    cached_tokens: int
    transferred_tokens: int
    computed_tokens: int
    generated_tokens: int
    delivered_tokens: int


@dataclass(eq=False, kw_only=True)
class Answering:
    """`give_up` tells the scheduler that nobody waits any more. `transfer` is what a prefill answers."""

    request_id: str
    model: str
    created: int
    exchange: Exchange
    sequence: Sequence
    reason: Reason
    fault: Fault | None
    give_up: Callable[["Answering"], None]
    streams: bool = True
    include_usage: bool = False
    continuous_usage: bool = False
    top_logprobs: int | None = None
    tool: tuple[str, str] | None = None
    transfer: wire.KvTransferParams | None = None
    delivered: int = 0
    ended: str = ""
    is_silent: bool = False
    _logprobs: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._answer_id = f"chatcmpl-{self.request_id}"
        self._chunks = wire.ChunkWriter(self._answer_id, self.model, self.created, self.tool)
        self.exchange.on_lost = self._lost
        self._fault_at = getattr(self.fault, "after_tokens", None)

    @property
    def usage(self) -> wire.WireUsage:
        sequence = self.sequence
        cached = sequence.cached_tokens + sequence.transferred_tokens
        return wire.wire_usage(len(sequence.prompt), sequence.generated, cached)

    @property
    def record(self) -> RequestRecord:
        sequence = self.sequence
        return RequestRecord(
            request_id=self.request_id,
            ended=self.ended,
            prompt_tokens=len(sequence.prompt),
            cached_tokens=sequence.cached_tokens,
            transferred_tokens=sequence.transferred_tokens,
            computed_tokens=sequence.prompt_computed,
            generated_tokens=sequence.generated,
            delivered_tokens=self.delivered,
        )

    def begin(self) -> None:
        """Headers and the role, before anything is computed."""
        if self.streams:
            self.exchange.begin_stream()
            self.exchange.send(self._chunks.first())
        if self._fault_at == 0:
            self._strike()

    def progress(self) -> None:
        """The scheduler has generated one more token."""
        if self.ended or self.is_silent:
            return
        index = self.sequence.generated - 1
        text = self.sequence.answer[index]
        is_last = self.sequence.is_finished
        logprobs = None
        if self.top_logprobs is not None and text:
            logprobs = token_logprobs(text, index, self.top_logprobs)
            self._logprobs.append(logprobs)
        self.delivered += 1
        if self.streams:
            self._send(text, logprobs, is_last)
        if self._fault_at == self.delivered:
            self._strike()
        if is_last and not self.ended and not self.is_silent:
            self._finish()

    def fail(self, message: str) -> None:
        """The engine stops: tell the client, if it still hears."""
        if not self.ended:
            self._end("failed")
            if self.exchange.is_streaming:
                self.exchange.end_stream(wire.error_event(500, message) + wire.DONE)
            else:
                self.exchange.reply(500, wire.error_body(500, message))

    def _send(self, text: str, logprobs: dict[str, Any] | None, is_last: bool) -> None:
        reason = self.reason if is_last else None
        if text or reason:
            usage = self.usage if self.continuous_usage else None
            self.exchange.send(self._chunks.token(text, reason, logprobs, usage))

    def _finish(self) -> None:
        self._end("finished")
        if self.streams:
            last = self._chunks.usage(self.usage) if self.include_usage else b""
            self.exchange.end_stream(last + wire.DONE)
            return
        body = wire.whole_answer(
            self._answer_id,
            self.model,
            self.created,
            "".join(self.sequence.answer),
            self.reason,
            self.usage,
            tool=self.tool,
            logprobs=None if self.top_logprobs is None else self._logprobs,
            transfer=self.transfer,
        )
        self.exchange.reply(200, body)

    def _strike(self) -> None:
        """The fault's moment has come."""
        match self.fault:
            case Hang():
                self.is_silent = True
                self.give_up(self)
            case Drop():
                self.exchange.drop()
            case ErrorEvent():
                self.give_up(self)
                self.fail("A fault was asked for: the simulated engine has failed.")
            case Garbage() if self.streams:
                self.exchange.send(wire.GARBAGE)
            case Garbage():
                self.give_up(self)
                self._end("garbage")
                self.exchange.reply(200, wire.GARBAGE)
            case _:
                pass

    def _lost(self) -> None:
        """The client has gone, or was hung up on."""
        if not self.ended:
            self._end("aborted")
            self.give_up(self)

    def _end(self, how: str) -> None:
        self.ended = how
