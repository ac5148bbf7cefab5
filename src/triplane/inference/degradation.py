"""The degradation ladder: under load a request is served with less, rather than late or not at all."""

from collections.abc import Sequence

import msgspec

from triplane.domain.completion import CompletionRequest, Message
from triplane.inference.catalogue import Step


def steps_for(ladder: Sequence[Step], predicted_wait_s: float) -> list[Step]:
    """The steps to take for a request that would wait so long."""
    return [step for step in ladder if predicted_wait_s > step.over_wait_s]


def without_offered_tools(request: CompletionRequest) -> CompletionRequest:
    """Leave out tools that the model may use but need not. A conversation amid calls keeps them.

    The request itself if there is nothing to leave out.
    """
    amid_calls = any(message.role == "tool" or message.tool_calls for message in request.messages)
    if not request.tools or request.tool_choice not in (None, "auto") or amid_calls:
        return request
    return msgspec.structs.replace(request, tools=None, tool_choice=None, parallel_tool_calls=None)


def with_less_history(
    request: CompletionRequest, counts: Sequence[int], most_tokens: int
) -> CompletionRequest:
    """Keep the instructions, the newest question and what follows it, and as much before it as fits.

    The cut lies before a user's message, so that no call loses its result. `counts` are the tokens of each
    message. The request itself if all of it fits.
    """
    messages = request.messages
    lead = next((i for i, m in enumerate(messages) if m.role not in ("system", "developer")), len(messages))
    questions = [i for i in range(lead, len(messages)) if messages[i].role == "user"]
    if not questions or sum(counts) <= most_tokens:
        return request
    fixed = sum(counts[:lead])
    cut = next((i for i in questions if fixed + sum(counts[i:]) <= most_tokens), questions[-1])
    kept: list[Message] = [*messages[:lead], *messages[cut:]]
    return request if len(kept) == len(messages) else msgspec.structs.replace(request, messages=kept)
