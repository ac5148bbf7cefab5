"""A completion asked for over HTTP: reserve, ask, relay, settle. `metering` writes the bill."""

from contextlib import aclosing

import msgspec

from triplane.domain.anthropic.requests import counted_messages, parse_count_request
from triplane.domain.completion import Flow
from triplane.domain.errors import EngineFailed, error_from_code
from triplane.domain.events import Delta, Failed, Finished, Usage
from triplane.domain.limits import estimated_tokens
from triplane.inference.gateway import AnyCompletion, Gateway
from triplane.inference.limits import Limiter, Reservation
from triplane.inference.service.metering import Bill, open_bill
from triplane.inference.service.reply import Reply
from triplane.inference.service.usage_log import UsageLog
from triplane.inference.service.wires import Asked, read_request
from triplane.wire.limit_headers import limit_headers


class Completions:
    def __init__(self, gateway: Gateway, limiter: Limiter, usage_log: UsageLog) -> None:
        self._gateway = gateway
        self._limiter = limiter
        self._usage_log = usage_log

    async def answer(self, path: str, flow: Flow, request_id: str, body: bytes, reply: Reply) -> str | None:
        """Answer; the code of the error that a stream broke with, if one did.

        Raises TriplaneError while it can still be told with a status.
        """
        asked = read_request(path, body, flow, request_id)
        request = asked.request
        self._usage_log.require_room()
        bill = open_bill(request)
        with await self._limiter.reserve(request.flow, request.model, estimated_tokens(request)) as reserved:
            try:
                completion = await self._gateway.complete(request)
            except BaseException:
                if bill.usage.total_tokens:  # else nothing was computed, and leaving refunds
                    reserved.settle(bill.usage)
                raise
            headers = answer_headers(request_id, reserved)
            try:
                async with aclosing(completion):
                    if asked.stream:
                        reply.open_stream(headers, asked.first)
                        return await _relay(completion, asked, reply, bill, reserved)
                    whole = await asked.whole(completion)
            finally:
                reserved.settle(bill.usage)
        reply.send(200, (("content-type", "application/json"), *headers), whole)
        return None

    async def count(self, flow: Flow, request_id: str, body: bytes, reply: Reply) -> None:
        """The tokens that a Messages request would have; one request of the limits. Raises TriplaneError."""
        asked = parse_count_request(body, request_id)
        with await self._limiter.reserve(flow, asked.model, 0) as reserved:
            counts = await self._gateway.count_tokens(asked.model, counted_messages(asked))
            reserved.settle(Usage())
        headers = [("content-type", "application/json"), *answer_headers(request_id, reserved)]
        reply.send(200, headers, msgspec.json.encode({"input_tokens": sum(counts)}))


def answer_headers(request_id: str, reserved: Reservation) -> list[tuple[str, str]]:
    """Each wire's clients look for the request's id in a header of their own."""
    return [("x-request-id", request_id), ("request-id", request_id), *limit_headers(reserved.limits)]


async def _relay(
    completion: AnyCompletion, asked: Asked, reply: Reply, bill: Bill, reserved: Reservation
) -> str | None:
    """The engine's events as frames, no faster than the client takes them."""
    write, delta = reply.write, asked.delta
    is_whole, code = False, None
    async for event in completion:
        if type(event) is Delta:
            write(delta(event))
        elif isinstance(event, Failed):
            code = event.code
            _fail(event, asked, reply)
        else:
            if isinstance(event, Finished):  # before the client knows, who may ask again at once
                is_whole = True
                reserved.settle(bill.usage)
            write(asked.tell(event))
        if reply.is_clogged:
            await reply.drained()
    if not is_whole and code is None:
        raise EngineFailed("The engine's answer broke off. Send the request again.")
    write(asked.last)
    reply.end()
    return code


def _fail(failed: Failed, asked: Asked, reply: Reply) -> None:
    """Tell with a status as long as none has gone out, else as the stream's last event."""
    error = error_from_code(failed.code, failed.message)
    if not reply.is_committed:
        raise error
    reply.write(asked.error(error))
