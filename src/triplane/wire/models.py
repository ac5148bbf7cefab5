"""The models that can be asked, in OpenAI's shape."""

from typing import Literal

import msgspec

from triplane.domain.completion import ModelCard, ModelOffer, TokenPrice

ShownAbility = Literal["tools", "vision", "json_schema", "continuation", "embeddings", "chat"]


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """`context_length`: tokens, prompt and answer together. `price`: of its first route, null if unknown."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    context_length: int
    name: str
    description: str | None
    price: TokenPrice | None
    abilities: list[ShownAbility]


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelObject]


def present_model(card: ModelCard) -> ModelObject:
    offer = card.offer or ModelOffer(name=card.id)
    abilities: list[ShownAbility] = [each for each in offer.abilities if each != "logprobs"]
    return ModelObject(
        id=card.id,
        created=card.created,
        owned_by=card.owned_by,
        context_length=card.context_length,
        name=offer.name,
        description=offer.description,
        price=offer.price,
        abilities=["chat", *abilities] if card.supports_chat else abilities,
    )
