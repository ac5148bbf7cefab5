"""What a turn takes from its conversation, project and user where its own request is silent.

They stand with the turn since it was opened, so that a takeover and a continuation go on under the same.
"""

import msgspec

from triplane.domain.completion import Message
from triplane.domain.conversation import TurnSettings
from triplane.orchestration.asks import CountedAsk
from triplane.orchestration.ports import Gateway
from triplane.orchestration.prompt import require_fits


async def under_settings(counted: CountedAsk, settings: TurnSettings, gateway: Gateway) -> CountedAsk:
    """The ask with these settings, its instructions counted by the engine.

    Raises ContextTooLong if the instructions leave the new messages no room.
    """
    if settings == TurnSettings():
        return counted
    asked, budget = counted.ask.template.sampling, counted.budget
    sampling = msgspec.structs.replace(
        asked,
        temperature=settings.temperature if asked.temperature is None else asked.temperature,
        top_p=settings.top_p if asked.top_p is None else asked.top_p,
        max_tokens=settings.max_tokens if asked.max_tokens is None else asked.max_tokens,
    )
    instructed = 0
    if settings.instructions:
        (instructed,) = await gateway.count_tokens(
            counted.card.id, [Message(role="system", content=settings.instructions)]
        )
    budget = msgspec.structs.replace(
        budget, max_answer_tokens=sampling.max_tokens, fixed_tokens=budget.fixed_tokens + instructed
    )
    require_fits(counted.new, budget)
    template = msgspec.structs.replace(counted.ask.template, sampling=sampling)
    ask = msgspec.structs.replace(counted.ask, template=template)
    return msgspec.structs.replace(counted, ask=ask, budget=budget)
