"""The models that can be asked, in OpenAI's shape."""

from typing import Literal

import msgspec

from triplane.domain.completion import ModelCard


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """`context_length`: tokens, prompt and answer together."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    context_length: int


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelObject]


def present_model(card: ModelCard) -> ModelObject:
    return ModelObject(
        id=card.id, created=card.created, owned_by=card.owned_by, context_length=card.context_length
    )
