"""Whose request it is, for queues, limits and routing: told by who was authenticated, by nothing else."""

import hashlib
from collections.abc import Sequence

from triplane.domain.completion import Flow, Message, text_of
from triplane.domain.conversation import Principal
from triplane.orchestration.accounts.plans import PlanOf

_LOOKED_AT = 4096
"""How many characters of a message tell one beginning of a prompt from another."""


def flow_of(who: Principal, plan_of: PlanOf, affinity: str | None = None) -> Flow:
    return Flow(
        tenant=who.tenant_id,
        user=who.user_id,
        plan=plan_of(who),
        api_key=who.api_key_id,
        affinity=affinity,
        caches=who.caches_answers,
    )


def prompt_affinity(who: Principal, messages: Sequence[Message]) -> str:
    """The same for prompts that begin alike, up to the first message of the user, and of one tenant."""
    digest = hashlib.blake2b(who.tenant_id.encode(), digest_size=8)
    for message in messages:
        digest.update(f"\0{message.role}\0{text_of(message.content)[:_LOOKED_AT]}".encode())
        if message.role == "user":
            break
    return digest.hexdigest()
