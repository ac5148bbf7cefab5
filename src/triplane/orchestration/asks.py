"""What is asked of a conversation, from the request until it is a turn to generate."""

import msgspec

from triplane.domain.completion import CompletionRequest, Message, ModelCard, text_of
from triplane.domain.conversation import NewMessage, OpenedTurn, Principal, Summary
from triplane.domain.events import FinishReason, TurnError, TurnStarted, TurnStatus
from triplane.domain.ids import new_id
from triplane.orchestration.ports import Gateway, HeldTurn, Recovered
from triplane.orchestration.prompt import Budget
from triplane.orchestration.summaries import summary_block


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks of a conversation.

    `template` is the request to the gateway, its messages being the new ones only; `system` holds the
    instructions that the caller gave for this turn alone. `request_id` makes a retry the same turn;
    `body_sha256` tells a retry from another ask under the same id. The last two are those of `NewTurn`; an
    ask without messages has the question that is its parent answered again.
    """

    who: Principal
    conversation_id: str
    request_id: str
    body_sha256: bytes
    template: CompletionRequest
    system: list[Message]
    parent_id: str | msgspec.UnsetType | None = msgspec.UNSET
    expected_parent: str | msgspec.UnsetType | None = msgspec.UNSET


class Continuation(msgspec.Struct, frozen=True, kw_only=True):
    """An ended answer that is to go on: where its log ends, and its tokens, if known."""

    after: int
    token_count: int | None


class CountedAsk(msgspec.Struct, frozen=True, kw_only=True):
    """An ask with what generating needs, counted before it was opened: all that a takeover has to know."""

    ask: Ask
    card: ModelCard
    new: list[NewMessage]
    budget: Budget
    continues: Continuation | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    status: TurnStatus
    finish_reason: FinishReason | None = None
    error: TurnError | None = None


class AcceptedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn to generate. `recovered` is an earlier owner's work, `decided` the end if it is known."""

    counted: CountedAsk
    opened: OpenedTurn
    recovered: Recovered | None = None
    decided: Outcome | None = None

    @property
    def ask(self) -> Ask:
        return self.counted.ask

    @property
    def begins_after(self) -> int:
        """The position in the log behind which this ask's answer begins."""
        return self.counted.continues.after if self.counted.continues else 0

    @property
    def held(self) -> HeldTurn:
        return HeldTurn(
            tenant_id=self.ask.who.tenant_id, turn_id=self.opened.turn_id, fence=self.opened.fence
        )


STOPPED = Outcome(status="stopped", finish_reason="stop")


async def count_ask(ask: Ask, gateway: Gateway, policy: str) -> CountedAsk:
    """Count the new messages and the fixed part of the prompt, in one call to the engine's tokenizer."""
    card = await gateway.model(ask.template.model)
    system = system_message(ask, policy)
    tools = Message(role="system", content=msgspec.json.encode(ask.template.tools or []).decode())
    asked = ask.template.messages
    counts = await gateway.count_tokens(
        card.id, [*asked, *system, *([tools] if ask.template.tools else []), Message(role="user", content="")]
    )
    new = [
        NewMessage(id=new_id("msg"), message=message, token_count=count)
        for message, count in zip(asked, counts, strict=False)
    ]
    budget = Budget(
        context_length=card.context_length,
        max_answer_tokens=ask.template.sampling.max_tokens,
        fixed_tokens=sum(counts[len(asked) :]),
        message_overhead=counts[-1],
    )
    return CountedAsk(ask=ask, card=card, new=new, budget=budget)


def encode_counted(counted: CountedAsk) -> bytes:
    """For the turn's row; the messages are told once, among what is new."""
    template = msgspec.structs.replace(counted.ask.template, messages=[])
    ask = msgspec.structs.replace(counted.ask, template=template)
    card = msgspec.structs.replace(counted.card, offer=None)
    return msgspec.json.encode(msgspec.structs.replace(counted, ask=ask, card=card))


def system_message(ask: Ask, policy: str, summary: Summary | None = None) -> list[Message]:
    """One system message: the policy, what the caller wants for this turn, and what was cut, in short."""
    texts = [policy, *(text_of(message.content) for message in ask.system)]
    if summary:
        texts.append(summary_block(summary))
    return [Message(role="system", content="\n\n".join(text for text in texts if text))]


def started_event(accepted: AcceptedTurn) -> TurnStarted:
    opened = accepted.opened
    return TurnStarted(
        turn_id=opened.turn_id,
        conversation_id=opened.conversation.id,
        message_id=opened.message_id,
        model=accepted.counted.card.id,
        created=int(opened.created_at.timestamp()),
    )
